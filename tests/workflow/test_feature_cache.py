"""The real rule of the feature cache: killed and resumed, unchanged, with images added."""

import os
import re
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import yaml
from conftest import DEMO, ROOT, SHARED, snakemake
from PIL import Image

from mmlens.features import EXTRACTORS, get_extractor
from mmlens.features.extract import extract
from mmlens.files import sha256_file

pytestmark = pytest.mark.slow
OF_A_RUN = {"lxmert_tsv", "stem", "stem_regions"}  # read more than the images


def write_config(folder, checkpoints, quads):
    path = folder / "resnet.yaml"
    features = {"extractors": ["resnet"], "shard": 8, "batch_size": 4, "threads": 1}
    features["settings"] = {"resnet": checkpoints["resnet"]}
    sizes = {"train": quads, "val": 2, "test": 2}
    path.write_text(yaml.safe_dump({"features": features, "dataset": {"quads": sizes}}))
    return path


def extracted(folder):
    """(computed, all) images of the last job, from its log."""
    log = folder / "results/test/logs/extract_features/resnet.log"
    found = re.search(r"resnet: (\d+) of (\d+) images computed", log.read_text())
    return tuple(map(int, found.groups()))


def test_killed_resumed_and_extended(tmp_path, checkpoints):
    config = write_config(tmp_path, checkpoints, quads=40)
    arguments = ["--cores", "1", "--configfile", DEMO, config, "--", "features"]
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    with subprocess.Popen(
        [*command, "--directory", str(tmp_path), *map(str, arguments)],
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as run:
        cache = tmp_path / "resources/cache"
        while len(list(cache.glob("resnet-*/[0-9]*.parquet"))) < 2:
            assert run.poll() is None, "ended before it could be killed"
            time.sleep(0.05)
        os.killpg(run.pid, signal.SIGKILL)
    done = snakemake("--unlock", "--configfile", DEMO, config, directory=tmp_path)
    assert done.returncode == 0, done.stderr
    before = len(list(cache.glob("resnet-*/[0-9]*.parquet")))
    done = snakemake("--rerun-incomplete", *arguments, directory=tmp_path)
    assert done.returncode == 0, done.stderr
    assert extracted(tmp_path) == (88 - 8 * before, 88)

    done = snakemake(*arguments, directory=tmp_path)
    assert "Nothing to be done" in done.stderr
    done = snakemake("--forcerun", "extract_features", *arguments, directory=tmp_path)
    assert done.returncode == 0, done.stderr
    assert extracted(tmp_path) == (0, 88)

    write_config(tmp_path, checkpoints, quads=43)
    done = snakemake(*arguments, directory=tmp_path)
    assert done.returncode == 0, done.stderr
    assert extracted(tmp_path) == (6, 94)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the photographs are not on this machine")
@pytest.mark.parametrize("name", sorted({*EXTRACTORS.names()} - OF_A_RUN))
def test_photographs_by_every_extractor(tmp_path, name, checkpoints, capsys):
    paths = sorted((SHARED / "data/coco_open/val2017").glob("*.jpg"))
    sizes = [Image.open(path).size for path in paths]
    samples = pd.DataFrame(
        {
            "image": [str(path) for path in paths],
            "image_sha256": [sha256_file(path) for path in paths],
            "width": [width for width, _ in sizes],
            "height": [height for _, height in sizes],
        }
    )
    settings = {"cache": tmp_path, "dtype": "float16", "shard": 100, "batch_size": 16}
    settings |= {"threads": 2, "keep_decoded": True, "device": "cpu"}
    for computed in (314, 0):
        extractor = get_extractor(name, **checkpoints.get(name, {}))
        index, _ = extract(samples, extractor, **settings)
        assert len(index) == 314
        assert f"{name}: {computed} of 314 images computed" in capsys.readouterr().out
