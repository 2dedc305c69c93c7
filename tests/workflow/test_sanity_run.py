"""Sanity checks by the real command: a target of any run, part of runs that ask for them."""

import shutil

import pandas as pd
import pytest
from conftest import DEMO, snakemake
from test_demo import job_counts

SMALL = """
sanity:
  samples: 8
  methods: [centre_prior, relevance]
  blocks: 2
  draws: 1
  emap_samples: 8
"""


@pytest.fixture(scope="module")
def folder(demo, tmp_path_factory):
    """A copy of the demo's folder, and the small settings."""
    directory = tmp_path_factory.mktemp("sanity") / "demo"
    shutil.copytree(demo.parents[1], directory)
    (directory / "small.yaml").write_text(SMALL)
    return directory


def test_the_target_makes_table_and_figures_of_any_run(folder):
    options = ("--cores", "2", "--configfile", DEMO, folder / "small.yaml")
    done = snakemake("sanity", *options, directory=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not {"train_model", "explain_model"} & set(job_counts(done))
    results = folder / "results/test"
    for model in ("text_only", "vilt_scratch"):
        assert (results / f"figures/sanity/{model}.svg").stat().st_size > 0
    table = pd.read_csv(results / "tables/sanity.csv", keep_default_na=False)
    single = table[table["model"] == "text_only"].set_index("check")["note"]
    for check in ("stability", "modality_share", "emap"):
        assert single[check].startswith("not applicable: ")
    both = table[table["model"] == "vilt_scratch"].set_index(["check", "method", "measure"])
    for key in ("cascading", "independent", "class_sensitivity", "stability"):
        rows = both.loc[key]
        assert set(rows.index.get_level_values("method")) == {"centre_prior", "relevance"}
        assert (rows["n"] + rows["degenerate"] == 8).all()
    assert both.loc[("emap", "", "auroc_gap"), "n"].tolist() == [8]
    priors = both.loc[("cascading", "centre_prior", "spearman"), "value"].astype(float)
    assert priors.tolist() == pytest.approx([1] * len(priors))


def test_a_run_that_asks_for_them_has_them_in_its_report(folder):
    (folder / "small.yaml").write_text(f"{SMALL}  enabled: true\n")
    options = ("--cores", "2", "--configfile", DEMO, folder / "small.yaml")
    done = snakemake(*options, directory=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = job_counts(done)
    assert not {"train_model", "explain_model", "check_explanations"} & set(counts)
    assert counts["write_report"] == counts["measure_cost"] == "1"
    report = (folder / "results/test/report/report.md").read_text()
    for title in ("Sanity checks of explanations", "Modalities of decisions"):
        assert title in report
