"""The twin of config/text_models.yaml: BERT and GPT-2 on texts alone, from data to the report."""

import subprocess
import sys

import pandas as pd
import pytest
from conftest import ROOT, snakemake

from mmlens.datasets.generated import generate

pytestmark = pytest.mark.slow

QUADS = {"train": 40, "val": 10, "test": 20}
CONFIGS = (ROOT / "config/text_models.yaml", ROOT / "config/test/text_models.yaml")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    directory = tmp_path_factory.mktemp("text_models")
    generate(directory / "resources/memes", quads=QUADS)
    make = [sys.executable, str(ROOT / "tests/twins.py"), "resources/twins"]
    environment = {"PYTHONPATH": str(ROOT / "scripts"), "OMP_NUM_THREADS": "1"}
    subprocess.run(make, cwd=directory, env=environment, check=True, capture_output=True)
    done = snakemake("--cores", "1", "--configfile", *CONFIGS, directory=directory)
    assert done.returncode == 0, done.stdout + done.stderr
    return directory / "results/text_models_twin"


@pytest.mark.parametrize("model", ["bert", "gpt2"])
def test_a_model_is_read_trained_and_explained(results, model):
    log = (results / f"logs/train_model/{model}/seed0.log").read_text()
    assert "tensors matched" in log
    said = pd.read_parquet(results / f"predictions/{model}/seed0.parquet")
    assert said["logit"].nunique() > 10
    found = pd.read_parquet(results / f"attributions/{model}/seed0.parquet")
    assert {"raw_attention", "rollout", "relevance", "saliency", "grad_cam"} < set(found["method"])
    samples = pd.read_csv(results / "data/samples.csv", dtype=str).set_index("sample_id")["text"]
    for row in found.itertuples():
        assert "".join(row.tokens) == samples[row.sample_id].replace(" ", "")
        assert len(row.text) == len(row.tokens)
        assert len(row.image) == 0
    for _method, maps in found.groupby("method")["text"]:
        assert maps.map(lambda values: values.std() > 0).any()
    assert (results / f"figures/attributions/{model}.svg").stat().st_size > 1000


def test_the_run_ends_in_a_report_that_finds_no_better_than_chance(results):
    comparison = pd.read_csv(results / "tables/comparison.csv")
    overall = comparison[comparison["subset"] == "all"]
    assert set(overall["model"]) == {"bert", "gpt2"}
    # Of quads that hold every text once with each label, the text alone tells nothing.
    assert (overall["auroc"] == 0.5).all()
    areas = pd.read_csv(results / "tables/perturbation_auc.csv")
    assert set(areas["modality"]) == {"text"}
    report = (results / "report/report.md").read_text()
    assert "gpt2, seed 0, text: better than random orders are" in report
