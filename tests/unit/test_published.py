"""Published results, and what a run has beside them."""

import pandas as pd
import pytest
from conftest import ROOT

from mmlens.evaluation.published import (
    KEYS,
    beside_published,
    label_versions,
    measured_results,
    read_published,
)

FILE = ROOT / "resources/published_results.csv"


@pytest.fixture(scope="module")
def published():
    return read_published(FILE)


def test_the_file_holds_one_result_per_row_with_its_source(published):
    assert not published.duplicated(list(KEYS)).any()
    assert (published["source"] != "").all()
    shares = published["value"] / published["scale"]
    other = published["metric"].isin(["similarity", "attention_entropy_nats"])
    assert shares[~other].between(0, 1).all()


def comparison():
    rows = [
        ("mine", "0", "all", 0.7, 0.6, 0.8),
        ("mine", "1", "all", 0.72, 0.62, 0.82),
        ("mine", "0", "group=x", 0.1, 0.0, 0.2),
        ("other", "0", "all", 0.9, 0.8, 1.0),
    ]
    names = ["model", "seeds", "subset", "auroc", "auroc_low", "auroc_high"]
    return pd.DataFrame(rows, columns=names).assign(n=1000)


def test_results_of_the_run_stand_beside_the_published_ones(published):
    settings = {
        "dataset": "hateful_memes",
        "split": "test_seen",
        "models": {"mine": "ViLBERT CC", "absent": "VisualBERT COCO"},
    }
    measured = measured_results({"comparison": comparison()})
    quality = pd.DataFrame({"split": ["train", "test"], "label_version": ["phase1", "both"]})
    table = beside_published(published, settings, measured, label_versions(quality))
    found = table[table["run_model"].notna()]
    assert set(found["run_labels"]) == {"train phase1, test both"}
    assert found["model"].tolist() == ["ViLBERT CC"] * 2
    assert found["seed"].tolist() == ["0", "1"]
    assert found["value"].tolist() == pytest.approx([70, 72])
    assert found["difference"].tolist() == pytest.approx([70 - 74.52, 72 - 74.52])
    assert found["low"].tolist() == pytest.approx([60, 62])
    empty = table[table["run_model"].isna()]
    assert empty["value"].isna().all()
    # Those of another split of the same model stay empty.
    assert "ViLBERT CC" in set(empty["model"])
    assert len(empty) == (published["dataset"] == "hateful_memes").sum() - 1


def test_areas_of_perturbation_are_compared_by_method_and_direction(published):
    area = {"model": "meter", "seed": 0, "subset": "all", "score": "accuracy", "n": 100}
    area |= {"procedure": "deletion", "operator": "token_drop", "protocol": "default"}
    area |= {"method": "dsmi_grad", "modality": "image"}
    area |= {"direction": "positive", "auc": 60.0, "auc_low": 55.0, "auc_high": 65.0}
    settings = {"dataset": "vqa_v2", "split": "val2014 subset", "models": {"meter": "METER-CLIP16"}}
    measured = measured_results({"perturbation_auc": pd.DataFrame([area])})
    table = beside_published(published, settings, measured)
    (row,) = table[table["run_model"].notna()].to_dict("records")
    assert (row["published"], row["value"]) == (54.45, pytest.approx(60))
    assert row["difference"] == pytest.approx(5.55)
    assert row["protocol"] == "token_drop, protocol default"
    assert len(table) == (published["dataset"] == "vqa_v2").sum()


def test_zero_shot_and_retrieval_are_of_the_model_not_of_its_controls(published):
    shared = {"model": "clip", "seed": 0, "n": 50, "low": 0.1, "high": 0.3}
    zero_shot = pd.DataFrame(
        [
            {**shared, "category": "all", "control": c, "rule": rule, "metric": metric, "value": v}
            for c, rule, metric, v in (
                (None, "largest", "top1", 0.2),
                ("shuffled_labels", "largest", "top1", 0.01),
                (None, None, "similarity", 0.25),
            )
        ]
    )
    retrieval = pd.DataFrame(
        [{**shared, "control": None, "direction": "text to image", "metric": "r1", "value": 0.3}]
    )
    measured = measured_results({"zero_shot": zero_shot, "retrieval": retrieval})
    assert measured["metric"].tolist() == ["top1_largest", "similarity", "text to image_r1"]
    settings = {"dataset": "coco", "split": "1,000 images of 2017", "models": {"clip": "CLIP"}}
    table = beside_published(published, settings, measured)
    found = table[table["run_model"].notna()].set_index("metric")["difference"]
    assert found["top1_largest"] == pytest.approx(0.2 - 0.1955)
    assert found["similarity"] == pytest.approx(0.25 + 0.034)
