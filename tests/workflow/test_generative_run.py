"""Runs with a model that is asked and never trained: predicted and reported, not explained."""

import re

import pandas as pd
import pytest
import yaml
from conftest import DEMO, snakemake
from generative_checkpoints import save_llava
from safetensors.torch import load_file

ASKED = {
    "model": "generative",
    "weights": "llava",
    "train": False,
    "arguments": {"prompt": "{text} is the claim false ?", "shots": 2},
}


def run(directory, *options, **sections):
    """A run of the small generated data; a CompletedProcess."""
    if not (directory / "llava").is_dir():
        save_llava(directory / "llava")
    data = {"kind": "generated", "quads": {"train": 4, "val": 2, "test": 4}}
    sections = {"dataset": data, "variants": {"asked": ASKED}, **sections}
    path = directory / "asked.yaml"
    path.write_text(yaml.safe_dump(sections))
    arguments = ["--cores", "1", *options, "--configfile", DEMO, path, "--config", "run=asked"]
    return snakemake(*arguments, directory=directory)


def test_it_is_planned_to_be_predicted_and_not_explained(tmp_path):
    done = run(tmp_path, "-n", models=["text_only", "asked"])
    assert done.returncode == 0, done.stdout + done.stderr
    counts = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout, re.MULTILINE))
    for rule in ("train_model", "predict_model", "explain_model", "draw_attributions"):
        assert counts[rule] == "1", rule
    targets = set(re.findall(r"results/asked/\S+asked\S*", done.stdout))
    assert any("predictions/asked/seed0.parquet" in path for path in targets)
    assert not any("attributions/asked" in path or "perturbation/asked" in path for path in targets)
    done = run(tmp_path, "-n", models=["asked"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search(
        r"^(train|explain)_model|^tabulate_explanations", done.stdout, re.MULTILINE
    )
    assert "write_report" in done.stdout


def test_it_cannot_be_trained(tmp_path):
    done = run(tmp_path, "-n", models=["asked"], variants={"asked": ASKED | {"train": True}})
    shown = done.stdout + done.stderr
    assert done.returncode != 0
    assert "variants.asked.train: found true, but generative is only used as its weights" in shown


@pytest.mark.slow
def test_a_run_that_only_asks_ends_in_a_report(tmp_path):
    corruptions = {"occlusion": [64], "typos": [0.6], "gaussian_blur": [1]}
    robustness = {"enabled": True, "corruptions": corruptions}
    done = run(tmp_path, models=["asked"], robustness=robustness)
    assert done.returncode == 0, done.stdout + done.stderr
    results = tmp_path / "results/asked"
    said = pd.read_parquet(results / "predictions/asked/seed0.parquet")
    assert said["logit"].nunique() > 10
    assert load_file(results / "checkpoints/asked/seed0/model.safetensors") == {}
    effective = yaml.safe_load((results / "checkpoints/asked/seed0/config.yaml").read_text())
    assert effective["model"]["arguments"]["prompt"] == ASKED["arguments"]["prompt"]
    assert effective["threshold_from"] == "val"
    assert "shown as examples: " in (results / "logs/predict_model/asked/seed0.log").read_text()
    comparison = pd.read_csv(results / "tables/comparison.csv")
    assert set(comparison["model"]) == {"asked"}
    assert (results / "report/index.html").stat().st_size > 10_000
    assert not (results / "tables/perturbation_auc.csv").exists()
    records = pd.read_parquet(results / "robustness/asked/seed0.parquet")
    logits = records.pivot(index="sample_id", columns="corruption", values="logit")
    clean = said.set_index("sample_id")["logit"].reindex(logits.index)
    assert (logits["clean"] == clean).all()
    assert (logits["gaussian_blur"] == clean).all()
    assert (logits["occlusion"] != clean).mean() > 0.5
    assert (logits["typos"] != clean).mean() > 0.5
