"""What the default run must show, read from its tables in results/demo of this checkout."""

import re

import pandas as pd
import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow
TABLES = ROOT / "results/demo/tables"
FUSING = ("vilt_scratch", "blip_scratch", "vilbert_scratch")
SEEDS = ("0", "1")
EXPLAINED = "0"  # seed


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


@pytest.mark.parametrize("model", FUSING)
@pytest.mark.parametrize("method", ["relevance", "rollout", "raw_attention"])
def test_the_report_says_of_every_method_what_its_pair_with_random_shows(model, method):
    pairs = read("method_pairs")
    own = (pairs["model"] == model) & (pairs["seed"] == EXPLAINED) & (pairs["modality"] == "image")
    own &= (pairs["direction"] == "positive") & (pairs["score"] == "probability")
    both = zip(pairs["method_a"], pairs["method_b"], strict=True)
    own &= pd.Series([set(names) == {method, "random"} for names in both])
    (pair,) = pairs[own].itertuples()
    assert pair.n == 100
    better = "A better" if pair.method_a == method else "B better"
    verdicts = {better: "better than random", "not separable": "not separable"}
    assert said_of(model, method) == verdicts.get(pair.verdict, "worse than random")


def said_of(model, method):
    """The verdict on a method against random orders in the findings of the report."""
    report = (ROOT / "results/demo/report/report.md").read_text()
    start = f"- {model}, seed {EXPLAINED}, image: "
    for line in (text.removeprefix(start) for text in report.splitlines() if start in text):
        verdict = re.match("better than|worse than|not separable from", line)
        if verdict and re.search(rf"\b{method}\b", line):
            return verdict[0].removesuffix(" from").replace("than", "than random")
    raise AssertionError(f"{model}: no verdict on {method}")


def test_audit_passes():
    audit = read("audit")
    assert "no" not in set(audit["passed"])
    swap = audit[(audit["stratum"] == "swap") & (audit["check"] == "words_and_counts")]
    assert swap["auroc"].item() <= 0.55


def test_jobs_stay_small():
    cost = read("cost")
    assert len(cost) + 3 < 60  # with measure_cost, write_report and all
    assert (cost["peak_mb"] < 4096).all()
