"""COCO and VQA v2 by the real command: downloaded from a server on this machine, or read here."""

import pandas as pd
import pytest
import yaml
from coco_host import host, sources_of
from conftest import ROOT, SHARED, snakemake

from mmlens.table import read_samples, read_table

__all__ = ["host"]

OPEN = SHARED / "data/coco_open"
NOTHING = "Nothing to be done"
# The data alone: no weights are downloaded, no features computed.
WITHOUT_MODELS = {"models": [], "features": {"extractors": []}}


def configs(name, directory, **dataset):
    """config/<name>.yaml without its models, and settings laid over its section dataset."""
    path = directory / "overlay.yaml"
    path.write_text(yaml.safe_dump({**WITHOUT_MODELS, "dataset": {"split": "test", **dataset}}))
    return ["--configfile", ROOT / f"config/{name}.yaml", path]


def run(name, directory, overlay):
    """`snakemake data` of these configurations."""
    arguments = ("--cores", "1", *configs(name, directory, **overlay), "--", "data")
    return snakemake(*arguments, directory=directory)


def shown(done):
    return done.stdout + done.stderr


@pytest.mark.parametrize(("name", "kind"), [("coco_zero_shot", "coco"), ("vqa_v2", "vqa")])
def test_data_is_downloaded_read_and_not_asked_for_again(host, tmp_path, name, kind):
    overlay = {"sources": sources_of(kind, host), "count": 3}
    done = run(name, tmp_path, overlay)
    assert done.returncode == 0, shown(done)
    results = tmp_path / "results" / name
    samples = read_samples(results / "data/samples.csv")
    assert len(samples) == 3
    files = read_table(results / "data/downloads.csv")
    assert sum(path.endswith(".jpg") for path in files["path"]) == 3
    images = read_table(results / "data/images.csv")
    assert images["image"].tolist() == samples["image"].tolist()
    assert images["sha256"].isin(files["sha256"]).all()
    classes = read_table(results / "data/classes.csv").set_index("index")["name"]
    assert classes[samples["label"].astype(str)].tolist() == samples["label_name"].tolist()
    assert len(classes) == {"coco": 1, "vqa": 3129}[kind]
    # What is known of the label from one modality alone is asked of answers, not of classes.
    audited = {"coco": [], "vqa": ["text_bound", "image_bound"]}[kind]
    assert pd.read_csv(results / "tables/audit.csv")["check"].tolist() == audited
    assert pd.read_csv(results / "tables/quality.csv")["samples"].tolist() == [3]

    host.asked.clear()
    again = run(name, tmp_path, overlay)
    assert NOTHING in shown(again)
    more = run(name, tmp_path, {**overlay, "count": 4})
    assert more.returncode == 0, shown(more)
    assert len(host.asked) == 1
    assert set(samples["sample_id"]) < set(read_samples(results / "data/samples.csv")["sample_id"])


def test_image_that_came_broken_is_left_out_and_counted(host, tmp_path):
    path = host.folder / "images/val2017/000000000002.jpg"
    path.write_bytes(path.read_bytes()[:300])
    overlay = {"sources": sources_of("coco", host), "count": None}
    done = run("coco_zero_shot", tmp_path, overlay)
    assert done.returncode == 0, shown(done)
    results = tmp_path / "results/coco_zero_shot"
    (counts,) = pd.read_csv(results / "tables/quality.csv").to_dict("records")
    assert (counts["rows_read"], counts["undecodable"], counts["samples"]) == (7, 1, 6)
    assert counts["without_category"] == 1
    log = (results / "logs/build_samples.log").read_text()
    assert "left out: " in log
    assert "000000000002.jpg cannot be decoded" in log


def test_image_that_the_server_lacks_ends_the_run_and_keeps_the_others(host, tmp_path):
    name = "000000000002.jpg"
    content = (host.folder / "images/val2017" / name).read_bytes()
    (host.folder / "images/val2017" / name).unlink()
    overlay = {"sources": sources_of("coco", host), "count": None}
    done = run("coco_zero_shot", tmp_path, overlay)
    assert done.returncode != 0
    assert f"{host.url}/images/val2017/{name}" in shown(done)
    assert not (tmp_path / "results/coco_zero_shot/data/samples.csv").exists()
    (host.folder / "images/val2017" / name).write_bytes(content)
    host.asked.clear()
    assert run("coco_zero_shot", tmp_path, overlay).returncode == 0
    assert host.asked == [f"/images/val2017/{name}"]


@pytest.mark.parametrize("name", ["coco_zero_shot", "vqa_v2"])
def test_a_run_without_models_ends_with_its_data(tmp_path, name):
    def plan(*targets):
        arguments = ("--cores", "1", "-n", *targets, *configs(name, tmp_path))
        planned = snakemake(*arguments, directory=tmp_path)
        assert planned.returncode == 0, shown(planned)
        return shown(planned)

    for target in ("data", "all"):
        jobs = plan(target)
        assert "fetch_dataset" in jobs
        assert "build_samples" in jobs
        assert "evaluate_models" not in jobs
    later = plan("train", "evaluate", "explain", "perturb", "figures", "summary")
    assert "build_samples" not in later


def test_models_of_two_labels_stop_before_anything_runs(tmp_path):
    (tmp_path / "img").mkdir()
    (tmp_path / "table.csv").write_text(
        "image,text,answers,split\n,what,red,train\n,who,red,val\n,why,red,test\n"
    )
    config = {
        "run": "answers",
        "dataset": {"kind": "csv", "root": str(tmp_path), "table": "table.csv"},
        "models": ["text_only"],
        "stem": {"pretrain": False},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    arguments = ("--cores", "1", "--configfile", tmp_path / "config.yaml")
    done = snakemake(*arguments, directory=tmp_path)
    assert done.returncode != 0
    assert "models: none of them learns a data set of answers" in shown(done)
    refused = snakemake(
        *("--cores", "1", "-n", "--configfile", ROOT / "config/coco_zero_shot.yaml"),
        *("--config", "models=[text_only]"),
        directory=tmp_path,
    )
    assert "models: text_only reads one modality" in shown(refused)


needs_data = pytest.mark.skipif(not OPEN.is_dir(), reason=f"no {OPEN}")


@needs_data
def test_real_photographs_with_boxes(tmp_path):
    overlay = {
        "root": str(OPEN),
        "count": None,
        "annotations": {"instances": "annotations/instances_val2017_boxes.json"},
    }
    done = run("coco_zero_shot", tmp_path, overlay)
    assert done.returncode == 0, shown(done)
    results = tmp_path / "results/coco_zero_shot"
    assert len(read_samples(results / "data/samples.csv")) == 312
    assert len(pd.read_parquet(results / "data/truth.parquet")) == 2882
    assert not (results / "data/downloads.csv").exists()


@needs_data
def test_real_questions(tmp_path):
    overlay = {
        "root": str(OPEN),
        "count": None,
        "lxmert": "vqa/vqav2_lxmert.json",
        "images": "val2017",
        "image_name": "{id:012d}.jpg",
        "vocabulary": "lxmert",
        "answers": "vqa/trainval_label2ans.json",
    }
    done = run("vqa_v2", tmp_path, overlay)
    assert done.returncode == 0, shown(done)
    results = tmp_path / "results/vqa_v2"
    assert len(read_samples(results / "data/samples.csv")) == 129
    done = run("vqa_v2", tmp_path, {**overlay, "vocabulary": "vilt"})
    assert done.returncode != 0
    assert "the order is lxmert, not vilt; set dataset.vocabulary: lxmert" in shown(done)
