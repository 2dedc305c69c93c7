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
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("sanity") / "small.yaml"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="module")
def checked(demo, small):
    """The folder of the demo's run with its checks, and the jobs that made them."""
    done = snakemake(
        *("sanity", "--cores", "2", "--configfile", DEMO, small), directory=demo.parents[1]
    )
    assert done.returncode == 0, done.stdout + done.stderr
    yield demo, job_counts(done)
    for folder in ("sanity", "figures/sanity"):
        shutil.rmtree(demo / folder)
    (demo / "tables/sanity.csv").unlink()


def test_the_target_makes_table_and_figures_of_any_run(checked):
    results, counts = checked
    assert counts["check_explanations"] == counts["draw_sanity"] == "2"
    assert not {"train_model", "explain_model"} & set(counts)
    for model in ("text_only", "vilt_scratch"):
        assert (results / f"figures/sanity/{model}.svg").stat().st_size > 0


def test_the_table_has_every_check_or_says_why_not(checked):
    table = pd.read_csv(checked[0] / "tables/sanity.csv", keep_default_na=False)
    single = table[table["model"] == "text_only"].set_index("check")["note"]
    for check in ("stability", "modality_share", "emap"):
        assert single[check].startswith("not applicable: ")
    both = table[table["model"] == "vilt_scratch"].set_index(["check", "method", "measure"])
    both = both.sort_index()
    for check in ("cascading", "independent", "class_sensitivity", "stability"):
        rows = both.loc[check]
        assert set(rows.index.get_level_values("method")) == {"centre_prior", "relevance"}
        assert (rows["n"] + rows["degenerate"] == 8).all()
    assert both.loc[[("emap", "", "auroc_gap")], "n"].tolist() == [8]
    priors = both.loc[("cascading", "centre_prior", "spearman"), "value"].astype(float)
    assert priors.tolist() == pytest.approx([1] * len(priors))


def test_a_run_that_asks_for_them_has_them_in_its_report(checked, tmp_path):
    (tmp_path / "enabled.yaml").write_text(f"{SMALL}  enabled: true\n")
    planned = snakemake(
        *("--cores", "1", "-n", "--configfile", DEMO, tmp_path / "enabled.yaml"),
        directory=checked[0].parents[1],
    )
    counts = job_counts(planned)
    assert counts["write_report"] == counts["measure_cost"] == "1"
    assert not {"train_model", "explain_model", "check_explanations"} & set(counts)
