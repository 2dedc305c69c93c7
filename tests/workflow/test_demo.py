"""The whole workflow on config/test/demo.yaml, by the real command."""

import shutil

import pandas as pd
import pytest
import yaml
from conftest import DEMO, snakemake, tables
from safetensors.torch import load_file

COLUMNS = {
    "comparison": "model seeds subset n auroc auroc_low auroc_high accuracy f1",
    "perturbation_auc": (
        "model method modality direction operator protocol score subset auc auc_low auc_high n"
    ),
    "perturbation_skill": (
        "model method modality operator score subset difference difference_low difference_high "
        "skill skill_low skill_high n"
    ),
    "localisation": "model method modality metric subset value low high n",
    "method_pairs": (
        "model seed modality direction score method_a method_b auc_a auc_b difference "
        "difference_low difference_high p p_holm verdict n clusters flagged"
    ),
    "model_pairs": "seed metric test model_a model_b difference p p_holm verdict n clusters",
    "fairness": "model seed column group metric value low high n positives note",
    "fairness_gaps": "model seed column metric gap gap_low gap_high p shuffled p_shuffled groups n",
    "confounders": "model seed kind value low high chance groups n",
    "checks": "model seed check passed value low high expected n note",
    "calibration": (
        "model seed temperature ece ece_low ece_high ece_scaled ece_drop nll nll_scaled n note"
    ),
    "reliability": "model seed scaled bin confidence share share_low share_high n",
    "audit": "stratum check auroc limit passed n",
    "quality": "split rows_read duplicates_dropped samples",
    "cost": "rule job seconds cpu_seconds peak_mb",
    "model_cost": "model seed parameters trainable device ms_per_sample peak_mb",
}
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
METHODS = {
    "random",
    "centre_prior",
    "raw_attention",
    "rollout",
    "grad_cam",
    "attention_grad_cam",
    "relevance",
    "saliency",
}


def job_counts(planned):
    """{rule: number of jobs, as text} from the output of a dry run."""
    listing = (planned.stdout + planned.stderr).split("Job stats:")[-1].splitlines()
    return dict(line.split() for line in listing if len(line.split()) == 2)


@pytest.mark.parametrize("name", COLUMNS)
def test_tables_have_their_columns(demo, name):
    table = pd.read_csv(demo / f"tables/{name}.csv")
    assert len(table)
    assert set(COLUMNS[name].split()) <= set(table.columns)


def test_every_file_of_the_design_is_there(demo):
    for model in ("text_only", "vilt_scratch"):
        for path in (
            f"checkpoints/{model}/seed0/model.safetensors",
            f"checkpoints/{model}/seed0/config.yaml",
            f"checkpoints/{model}/seed0/history.csv",
            f"predictions/{model}/seed0.parquet",
            f"metrics/{model}/seed0.json",
            f"attributions/{model}/seed0.parquet",
            f"perturbation/{model}/seed0.parquet",
            f"figures/attributions/{model}.svg",
            f"figures/attributions/{model}.png",
            f"figures/perturbation_curves/{model}.svg",
        ):
            assert (demo / path).stat().st_size > 0
    for kind in ("training_curves", "roc_curves", "confusion_matrices"):
        assert (demo / f"figures/{kind}/all_models.svg").stat().st_size > 0
    # The state that training resumes from is gone once training is done.
    assert not list(demo.glob("checkpoints/*/.seed*"))


def test_the_pretrained_stem_learns_slowly_where_there_is_one(demo):
    used = {
        model: yaml.safe_load((demo / f"checkpoints/{model}/seed0/config.yaml").read_text())
        for model in ("text_only", "vilt_scratch")
    }
    factors = {model: config["training"]["stem_lr_factor"] for model, config in used.items()}
    assert factors == {"text_only": 1.0, "vilt_scratch": 0.1}


def test_unimodal_model_is_at_chance_exactly(demo):
    comparison = pd.read_csv(demo / "tables/comparison.csv")
    text_only = comparison[comparison["model"] == "text_only"]
    assert (text_only["auroc"] == 0.5).all()
    assert (text_only["auroc_low"] == 0.5).all()


def test_perturbation_curves_are_complete_and_share_their_ends(demo):
    curves = pd.read_parquet(demo / "perturbation/vilt_scratch/seed0.parquet")
    assert set(curves["method"]) == METHODS
    assert set(curves["modality"]) == {"image", "text"}
    keys = ["sample_id", "method", "modality", "direction"]
    assert (curves.groupby(keys)["fraction"].nunique() == 9).all()
    # Nothing removed: one value per sample. All removed: one per sample and modality.
    ends = curves[curves["fraction"] == 0].groupby("sample_id")["logit"]
    assert (ends.max() - ends.min() < 1e-5).all()
    ends = curves[curves["fraction"] == 1].groupby(["sample_id", "modality"])["logit"]
    assert (ends.max() - ends.min() == 0).all()


def test_cost_lists_every_job_before_the_report(demo):
    cost = pd.read_csv(demo / "tables/cost.csv", keep_default_na=False)
    assert len(cost) == 19
    assert (cost["seconds"].astype(float) > 0).all()


def test_model_cost_counts_the_parameters_of_every_model(demo):
    cost = pd.read_csv(demo / "tables/model_cost.csv").set_index("model")
    assert set(cost.index) == {"text_only", "vilt_scratch"}
    for model, row in cost.iterrows():
        state = load_file(demo / f"checkpoints/{model}/seed0/model.safetensors")
        counted = [v.numel() for n, v in state.items() if not n.endswith(BUFFERS)]
        assert row["parameters"] == row["trainable"] == sum(counted)
        assert row["ms_per_sample"] > 0
        assert row["peak_mb"] > 100
        assert row["device"] == "cpu"


def test_second_run_does_nothing(demo):
    again = snakemake("--cores", "2", "--configfile", DEMO, directory=demo.parents[1])
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout + again.stderr


def test_a_changed_setting_reruns_what_depends_on_it(demo):
    planned = snakemake(
        "--cores", "1", "-n", "--configfile", DEMO, "--config", "methods=[random, rollout]",
        directory=demo.parents[1],
    )  # fmt: skip
    counts = job_counts(planned)
    assert counts["explain_model"] == "2"
    assert not {"train_model", "build_samples", "evaluate_models"} & set(counts)


def test_as_many_seeds_are_explained_as_are_asked_for(demo, tmp_path):
    overlay = tmp_path / "seeds.yaml"
    for explained, count in (("1", None), ("null", "2")):
        overlay.write_text(f"seeds: [0, 1]\nexplain: {{ seeds: {explained} }}\n")
        options = ("--cores", "1", "-n", "--configfile", DEMO, overlay)
        counts = job_counts(snakemake(*options, directory=demo.parents[1]))
        assert counts["train_model"] == "2"  # of the second seed
        assert counts.get("explain_model") == count


def test_one_core_gives_the_same_bytes(demo, tmp_path):
    done = snakemake("--cores", "1", "--configfile", DEMO, directory=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert tables(tmp_path / "results/test") == tables(demo)


def test_shards_give_the_same_bytes_even_if_one_is_empty(demo, tmp_path):
    shutil.copytree(demo, tmp_path / "results/test")
    for kind in ("attributions", "perturbation"):
        shutil.rmtree(tmp_path / "results/test" / kind)
    (tmp_path / "results/test/tables/perturbation_auc.csv").unlink()
    overlay = tmp_path / "shards.yaml"
    overlay.write_text("explain: { shards: 2 }\n")
    options = ("--cores", "2", "--configfile", DEMO, overlay)
    done = snakemake("perturb", *options, directory=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = job_counts(done)
    assert counts["explain_model"] == "4"  # two of each model, of which one has no sample
    assert counts["join_explanations"] == "2"
    assert tables(tmp_path / "results/test") == tables(demo)
    for kind in ("attributions", "perturbation"):
        file = f"{kind}/vilt_scratch/seed0.parquet"
        assert (tmp_path / "results/test" / file).read_bytes() == (demo / file).read_bytes()


def test_one_figure_builds_only_what_it_needs(tmp_path):
    target = "results/test/figures/attributions/vilt_scratch.png"
    planned = snakemake("--cores", "1", "-n", target, "--configfile", DEMO, directory=tmp_path)
    assert planned.returncode == 0, planned.stderr
    counts = job_counts(planned)
    assert counts["train_model"] == counts["explain_model"] == "1"
    assert counts["total"] == "7"
    assert not {"evaluate_models", "tabulate_explanations", "write_report"} & set(counts)


@pytest.mark.parametrize("name", ["report.html", "report.zip", "summary"])
def test_snakemake_report_is_written(demo, name):
    directory = demo.parents[1]
    written = directory / ("summary.html" if name == "summary" else name)
    done = snakemake("--configfile", DEMO, "--report", name, directory=directory)
    assert done.returncode == 0, done.stdout + done.stderr
    assert written.stat().st_size > 100_000


def test_targets_by_name(demo):
    for target in ("data", "train", "evaluate", "explain", "perturb", "figures", "summary", "all"):
        done = snakemake(
            "--cores", "1", "-n", target, "--configfile", DEMO, directory=demo.parents[1]
        )
        assert "Nothing to be done" in done.stdout + done.stderr, target
