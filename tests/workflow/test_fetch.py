"""Hateful Memes by the real command, from a hub and an archive on this machine."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import yaml
from archives import write_tar
from conftest import ROOT, snakemake
from loopback import serving
from memes import SPLITS, annotations, images, jsonl

from mmlens.table import read_samples, read_table

CONFIG = ROOT / "config/hateful_memes.yaml"
REVISION = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
REVISION = next(
    branch["then"]["properties"]["sources"]["properties"]["revision"]["default"]
    for branch in REVISION["properties"]["dataset"]["allOf"]
    if branch["if"]["properties"]["kind"]["const"] == "hateful_memes"
)
# gdown keeps what comes in pieces of this size.
PIECE = 512 * 1024


@pytest.fixture
def host(tmp_path):
    """The mirror with annotations and some images, the backup with one, an archive with others."""
    with serving() as server:
        mirror = {**annotations(), **images(range(1, 7))}
        server.add_to_hub("neuralcatcher/hateful_memes", mirror, revision=REVISION)
        server.add_to_hub("limjiayi/hateful_memes_expanded", images([7]))
        padding = {"note.bin": np.random.default_rng(0).bytes(4 * PIECE)}
        packed = write_tar(tmp_path / "packed.tar.gz", {**padding, **images(range(8, 17))})
        server.files["/img.tar.gz"] = packed.read_bytes()
        yield server


def overlay(server, folder, **dataset):
    """Laid over config/hateful_memes.yaml: this server in place of all, and no captions."""
    sources = {"endpoint": server.url(""), "archive": server.url("/img.tar.gz")}
    sources["fine_grained"] = server.url("/fine")
    path = folder / "overlay.yaml"
    settings = {"dataset": {"sources": sources, **dataset}, "captions": {"enabled": False}}
    path.write_text(yaml.safe_dump(settings))
    return path


def arguments(*configs):
    return ["--cores", "1", "--configfile", CONFIG, *configs, "--", "data"]


def gets(server):
    return [path for method, path, _ in server.asked if method == "GET"]


def test_a_dry_run_resolves_and_without_the_licence_nothing_is_asked_for(host, tmp_path):
    done = snakemake("-n", *arguments(), directory=tmp_path / "dry")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fetch_dataset" in done.stdout + done.stderr
    done = snakemake(*arguments(overlay(host, tmp_path)), directory=tmp_path)
    assert done.returncode != 0
    assert "dataset.accept_licence: found False, expected true; nothing was" in done.stderr
    assert "research only, no redistribution" in done.stderr
    assert host.asked == []
    assert not (tmp_path / "resources").exists()


def test_data_is_downloaded_checked_read_and_not_asked_for_again(host, tmp_path):
    labels = [{"id": 9, "gold_pc": ["race", "sex"], "gold_attack": ["mocking"]}]
    host.files["/fine/dev_seen.json"] = jsonl(labels)
    config = overlay(
        host, tmp_path, accept_licence=True, fine_grained={"val": "fine/dev_seen.json"}
    )
    done = snakemake(*arguments(config), directory=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    results = tmp_path / "results/hateful_memes"
    samples = read_samples(results / "data/samples.csv").set_index("sample_id")
    assert samples["split"].value_counts().to_dict() == {"train": 8, "val": 4, "test": 4}
    for name, content in images().items():
        path = f"resources/downloads/hateful_memes/{name}"
        assert path in set(samples["image"])
        assert (tmp_path / path).read_bytes() == content
    assert samples.loc["00009", "group_protected_category"] == "race|sex"
    assert set(samples["group_attack"]) == {"mocking", "unlabelled"}
    quality = pd.read_csv(results / "tables/quality.csv")
    assert (quality["label_version"] == "unknown").all()
    assert (quality["shared_ids_dropped"] == 0).all()

    files = read_table(results / "data/downloads.csv").set_index("path")
    single = sorted(images(range(1, 8)))
    assert files.index.tolist() == sorted([*SPLITS, "fine/dev_seen.json", "img.tar.gz", *single])
    assert files.columns.tolist() == ["url", "size", "sha256", "etag", "licence"]
    assert (files["sha256"].str.len() == 64).all()
    assert files["licence"].value_counts()["Apache-2.0"] == 1
    assert "hateful_memes_expanded/resolve/main/img/00007.png" in files.loc["img/00007.png", "url"]

    host.asked.clear()
    again = snakemake(*arguments(config), directory=tmp_path)
    assert "Nothing to be done" in again.stdout + again.stderr
    other = overlay(host, tmp_path, accept_licence=True)  # which reruns the download
    done = snakemake(*arguments(other), directory=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "group_attack" not in read_samples(results / "data/samples.csv")
    assert host.asked == []


def test_a_killed_download_goes_on_where_it_was(host, tmp_path):
    host.faults["/img.tar.gz"] = [{"hang": 3 * PIECE + 1000}]
    config = overlay(host, tmp_path, accept_licence=True)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(tmp_path), *map(str, arguments(config))]
    running = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    root = tmp_path / "resources/downloads/hateful_memes"
    deadline = time.monotonic() + 120
    while not any(path.stat().st_size >= 3 * PIECE for path in root.glob("img.tar.gz*.part")):
        assert running.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert not (tmp_path / "results/hateful_memes/data/downloads.csv").exists()
    before = len(gets(host))

    unlocked = snakemake("--unlock", "--configfile", CONFIG, config, directory=tmp_path)
    assert unlocked.returncode == 0, unlocked.stderr
    done = snakemake(*arguments(config), directory=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    # gdown first asks what the file is, then for its rest; the annotations are not asked for.
    assert host.gets("/img.tar.gz") == [None, None, f"bytes={3 * PIECE}-"]
    assert not [path for path in gets(host)[before:] if path.endswith(".jsonl")]
    assert len(read_samples(tmp_path / "results/hateful_memes/data/samples.csv")) == 16


def test_what_is_missing_in_the_end_stops_the_run_by_name(host, tmp_path):
    host.files["/img.tar.gz"] = host.files["/img.tar.gz"][:-100]
    config = overlay(host, tmp_path, accept_licence=True)
    done = snakemake(*arguments(config), directory=tmp_path)
    assert done.returncode != 0
    assert "img.tar.gz: no zip or tar archive, or not a whole one" in done.stderr
    assert "9 images are in none of the sources; put them below resources/" in done.stderr
    assert all(name in done.stderr for name in images(range(8, 17)))
    root = tmp_path / "resources/downloads/hateful_memes/img"
    assert sorted(path.name for path in root.glob("[!.]*")) == [f"{k:05d}.png" for k in range(1, 8)]
