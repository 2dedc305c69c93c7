"""Train and export, then use what was exported: as it is, on a table of one's own, further on."""

import pandas as pd
import pytest
import torch
import yaml
from conftest import DEMO, snakemake
from safetensors.torch import load_file
from transformers import AutoTokenizer

import mmlens.models
from mmlens.table import read_samples

pytestmark = pytest.mark.slow

EXPORT = "results/first/checkpoints/vilt_scratch/seed0/export"
SMALL = {
    "models": ["vilt_scratch"],
    "dataset": {"kind": "generated", "quads": {"train": 40, "val": 8, "test": 10}},
    "training": {"epochs": 1},
    "training_of": {"vilt_scratch": {"epochs": 1}},
    "explain": {"samples": 8, "random_draws": 1},
}
USED = {"model": "vilt_scratch", "weights": EXPORT, "train": False}


def run(directory, target, base=(DEMO,), **sections):
    """A run of the default config, with `base` and sections laid over it; a CompletedProcess."""
    path = directory / f"{sections['run']}.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **sections}))
    arguments = ["--cores", "2", "--configfile", *base, path, "--", target]
    return snakemake(*arguments, directory=directory)


def predictions(directory, name, model):
    return pd.read_parquet(directory / f"results/{name}/predictions/{model}/seed0.parquet")


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """Folder of a run that trained and exported one model."""
    directory = tmp_path_factory.mktemp("modes")
    done = run(directory, "export", run="first")
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


def test_an_export_says_what_the_run_said(first, monkeypatch):
    monkeypatch.chdir(first)
    samples = read_samples("results/first/data/samples.csv").set_index("sample_id")
    said = predictions(first, "first", "vilt_scratch")
    said = said[said["split"] == "test"]
    chosen = samples.loc[said["sample_id"]]
    loaded = mmlens.models.load(EXPORT)
    found = loaded.predict(chosen["image"].tolist(), chosen["text"].tolist())
    for column in ("logit", "probability", "prediction"):
        assert found[column].tolist() == said[column].tolist()
    tokenizer = AutoTokenizer.from_pretrained(EXPORT)
    assert (
        tokenizer("a red circle")["input_ids"] == loaded.spec.tokenizer.encode("a red circle").ids
    )
    card = (first / EXPORT / "README.md").read_text()
    assert "Trained from scratch" in card
    assert f"| auroc | {metric(first, 'first', 'vilt_scratch'):.4g} |" in card


def metric(directory, name, model):
    path = directory / f"results/{name}/metrics/{model}/seed0.json"
    return yaml.safe_load(path.read_text())["subsets"]["all"]["auroc"]["value"]


def test_a_second_run_validates_it(first):
    """All that comes after training, but the figure of training; the same numbers."""
    done = run(first, "all", run="second", models=["used"], variants={"used": USED})
    assert done.returncode == 0, done.stdout + done.stderr
    one, other = predictions(first, "first", "vilt_scratch"), predictions(first, "second", "used")
    pd.testing.assert_frame_equal(one, other)
    assert metric(first, "second", "used") == metric(first, "first", "vilt_scratch")
    results = first / "results/second"
    assert not (results / "figures/training_curves").exists()
    assert not (results / "features/stem").exists()
    said = f"Not trained in this run, but used as the weights are: used (weights: {EXPORT})."
    assert said in (results / "report/report.md").read_text()
    again = run(first, "all", run="second", models=["used"], variants={"used": USED})
    assert "Nothing to be done" in again.stderr


def test_a_table_of_ones_own_without_labels(first):
    samples = read_samples(first / "results/first/data/samples.csv")
    chosen = samples[samples["split"] == "test"].head(6)
    chosen[["sample_id", "image", "text"]].to_csv(first / "mine.csv", index=False)
    dataset = {"kind": "csv", "root": ".", "table": "mine.csv", "split": "test"}
    own = {"run": "mine", "models": ["used"], "variants": {"used": USED}, "dataset": dataset}
    own |= {"base": (), "training_of": {}, "seeds": [0]}
    done = run(first, "predict", **own)
    assert done.returncode == 0, done.stdout + done.stderr
    found = predictions(first, "mine", "used").set_index("sample_id")
    before = predictions(first, "first", "vilt_scratch").set_index("sample_id")
    pd.testing.assert_series_equal(found["threshold"], before.loc[found.index, "threshold"])
    # In another batch a product of matrices may round differently.
    pd.testing.assert_series_equal(
        found["probability"], before.loc[found.index, "probability"], rtol=0, atol=1e-5
    )
    assert set(found["label"]) == {-1}
    done = run(first, "evaluate", **own)
    assert done.returncode != 0
    assert "the samples have no labels, which evaluation" in done.stderr
    done = run(first, "train", **{**own, "models": ["vilt_scratch"], "stem": {"pretrain": False}})
    assert done.returncode != 0
    assert "mine.csv: no column label; found sample_id, image, text; add it" in done.stderr


def test_training_goes_on_from_it(first):
    again = {"model": "vilt_scratch", "weights": EXPORT}
    done = run(first, "train", run="third", models=["again"], variants={"again": again})
    assert done.returncode == 0, done.stdout + done.stderr
    name = "checkpoints/again/seed0/model.safetensors"
    state = load_file(first / "results/third" / name)
    start = load_file(first / EXPORT / "model.safetensors")
    assert state.keys() == start.keys()
    assert any(not torch.equal(state[key], start[key]) for key in state)
    log = (first / "results/third/logs/train_model/again/seed0.log").read_text()
    assert "epoch=1" in log
