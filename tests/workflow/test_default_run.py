"""What the default run must show, read from its tables in results/demo of this checkout."""

import pandas as pd
import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow
TABLES = ROOT / "results/demo/tables"
FUSING = ("vilt_scratch", "blip_scratch", "vilbert_scratch")
SEEDS = ("0", "1")


def read(name):
    if not (TABLES / f"{name}.csv").is_file():
        pytest.skip("no results/demo here; run: snakemake --cores all")
    return pd.read_csv(TABLES / f"{name}.csv", dtype={"seeds": str, "seed": str})


@pytest.fixture
def comparison():
    return read("comparison").set_index(["model", "seeds", "subset"])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("model", FUSING)
def test_models_that_fuse_learn_the_binding(comparison, model, seed):
    assert comparison.loc[(model, seed, "all"), "auroc"] >= 0.95
    assert comparison.loc[(model, seed, "swap"), "auroc"] >= 0.90


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("model", FUSING)
def test_two_towers_stay_below_them_on_swap(comparison, model, seed):
    towers = max(comparison.loc[("clip_scratch", k, "swap"), "auroc_high"] for k in SEEDS)
    assert towers < comparison.loc[(model, seed, "swap"), "auroc_low"]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("model", ["text_only", "image_only"])
def test_unimodal_models_are_at_chance_exactly(comparison, model, seed):
    for subset in ("all", "easy", "swap"):
        assert comparison.loc[(model, seed, subset), "auroc"] == 0.5


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("model", FUSING)
@pytest.mark.parametrize("method", ["relevance", "rollout", "raw_attention"])
def test_explanations_beat_random_or_the_report_says_why(model, seed, method):
    table = read("perturbation_auc").set_index(
        ["model", "seed", "modality", "direction", "score", "subset", "method"]
    )
    own = table.loc[(model, seed, "image", "positive", "probability", "all", method)]
    random = table.loc[(model, seed, "image", "positive", "probability", "all", "random")]
    assert own["n"] >= 100
    if own["auc_high"] >= random["auc_low"]:
        report = (ROOT / "results/demo/report/report.md").read_text()
        found = [s for s in report.splitlines() if f"{model}, seed {seed}, image: {method} " in s]
        assert len(found) == 1
        assert "not separable" in found[0] or "worse" in found[0]


def test_audit_passes():
    audit = read("audit")
    assert "no" not in set(audit["passed"])
    swap = audit[(audit["stratum"] == "swap") & (audit["check"] == "words_and_counts")]
    assert swap["auroc"].item() <= 0.55


def test_jobs_stay_small():
    cost = read("cost")
    assert len(cost) + 3 < 60  # with measure_cost, write_report and all
    assert (cost["peak_mb"] < 4096).all()
