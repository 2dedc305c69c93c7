"""Robustness end to end: models of one and of two modalities, on pixels and on regions."""

import pandas as pd
import pytest
from conftest import DEMO, snakemake

pytestmark = pytest.mark.slow
OVERLAY = """
run: robustness
models: [text_only, vilt_scratch, blip_frozen, objects]
variants: { objects: { model: blip_frozen } }
features:
  extractors: [pixels, stem_regions]
  of: { objects: stem_regions }
robustness:
  enabled: true
  samples: 80
  corruptions: { gaussian_blur: null, occlusion: null, rotation: [30], typos: null }
explain: { samples: 8 }
"""


def test_a_run_with_corruptions(tmp_path):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(OVERLAY)
    options = ("--configfile", DEMO, overlay)
    done = snakemake("--cores", "2", *options, directory=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    again = snakemake("--cores", "1", *options, directory=tmp_path)
    assert "Nothing to be done" in again.stdout + again.stderr
    results = tmp_path / "results/robustness"
    table = pd.read_csv(results / "tables/robustness.csv")
    assert (results / "figures/robustness/all_models.svg").stat().st_size > 0
    assert "Mean over corruptions" in (results / "report/report.md").read_text()
    text_only = table[table["model"] == "text_only"]
    why = text_only.dropna(subset=["note"]).set_index("corruption")["note"]
    assert why.to_dict() == dict.fromkeys(
        ("gaussian_blur", "occlusion", "rotation"), "not applicable: text_only reads no image"
    )
    of_objects = table[table["model"] == "objects"].dropna(subset=["note"])
    assert of_objects["corruption"].tolist() == ["rotation"]
    # Whatever is done to the texts, equal ones stay equal.
    assert (text_only.loc[text_only["metric"] == "auroc", "value"] == 0.5).all()
    for model in ("vilt_scratch", "blip_frozen", "objects"):
        own = table[(table["model"] == model) & table["note"].isna()]
        same = own[(own["corruption"] == "gaussian_blur") & (own["severity"] == 1)]
        clean = own[own["corruption"] == "clean"]
        assert same["value"].tolist() == clean["value"].tolist()
        assert (same["drop_low"] == 0).all()
        records = pd.read_parquet(results / f"robustness/{model}/seed0.parquet")
        records = records[records["note"] == ""]
        logits = records.pivot(
            index="sample_id", columns=["corruption", "severity"], values="logit"
        )
        assert len(logits) == 80
        for condition in (("occlusion", 2), ("typos", 3)):
            assert (logits[condition] != logits["clean", 0]).mean() > 0.5
        # The clean images of a generated data set are those that the model predicted.
        predicted = pd.read_parquet(results / f"predictions/{model}/seed0.parquet")
        expected = predicted.set_index("sample_id")["logit"].reindex(logits.index)
        assert (logits["clean", 0] - expected).abs().max() < 1e-4
