"""Diagnostics of a finished run: switched on, they are made and shown; nothing else runs again."""

import shutil

import pandas as pd
import pytest
from conftest import DEMO, snakemake
from test_demo import job_counts

pytestmark = pytest.mark.slow

FEW = """
diagnostics: {enabled: true, samples: 12, readouts: [own, image, "text:0"]}
"""
TABLES = ("attention_entropy", "cross_modal_attention", "logit_lens", "decision_depth")
FIGURES = ("attention_entropy", "cross_modal_attention", "logit_lens", "mean_attention")


@pytest.fixture(scope="module")
def directory(demo, tmp_path_factory):
    # As deep as the demo's, since Snakemake keeps the paths of inputs relative to the folder.
    copy = tmp_path_factory.mktemp("diagnosed")
    shutil.copytree(demo.parents[1], copy, dirs_exist_ok=True)
    (copy / "few.yaml").write_text(FEW)
    return copy


def test_a_run_without_them_plans_none_and_with_them_no_training(directory):
    plain = snakemake("-n", "--configfile", DEMO, directory=directory)
    assert "diagnose_model" not in plain.stdout + plain.stderr
    own = ("--configfile", DEMO, directory / "few.yaml")
    jobs = job_counts(snakemake("-n", *own, directory=directory))
    assert jobs["diagnose_model"] == jobs["draw_diagnostics"] == "2"
    assert jobs["tabulate_diagnostics"] == "1"
    assert "train_model" not in jobs
    assert "explain_model" not in jobs
    asked = snakemake("-n", "diagnose", "--configfile", DEMO, directory=directory)
    assert job_counts(asked)["diagnose_model"] == "2"


def test_tables_and_figures_are_made_and_the_report_shows_them(directory):
    own = ("--configfile", DEMO, directory / "few.yaml")
    done = snakemake("--cores", "1", *own, directory=directory)
    assert done.returncode == 0, done.stdout + done.stderr
    results = directory / "results/test"
    for name in TABLES:
        table = pd.read_csv(results / f"tables/{name}.csv")
        assert set(table["model"]) == {"text_only", "vilt_scratch"}
        numbers = table[table["value"].notna()]
        assert len(numbers)
        known = numbers[numbers["low"].notna()]  # of more than one cluster
        assert len(known)
        assert (known["low"] <= known["value"] + 1e-5).all()  # of 6 digits
        assert (known["value"] <= known["high"] + 1e-5).all()
        assert table.loc[table["value"].isna() & (table["n"] == 0), "note"].notna().any() or (
            name == "attention_entropy"
        )
    report = (results / "report/report.md").read_text()
    for title in ("Attention entropy", "Cross-modal attention", "Logit lens", "Decision depth"):
        assert f"## {title}" in report
    for kind in FIGURES:
        for model in ("text_only", "vilt_scratch"):
            assert (results / f"figures/{kind}/{model}.svg").stat().st_size > 1000
            assert f"../figures/{kind}/{model}.png" in report
