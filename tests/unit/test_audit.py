"""The audit lets clean data pass and names the stratum and the check of a leak."""

import pandas as pd
import pytest

from mmlens.datasets import DATASETS
from mmlens.datasets.audit import MAX_WITHOUT_BINDING, audit, check, without_binding
from mmlens.datasets.generated import generate
from mmlens.datasets.samples import build_samples
from mmlens.table import DataError

QUADS = {"train": 200, "val": 10, "test": 100}


def audited(folder, leak):
    generate(folder, quads=QUADS, size=64, leak=leak)
    reading = DATASETS.get("generated")({"root": str(folder), "quads": QUADS})
    samples, truth, _ = build_samples(reading)
    return audit(samples, truth)


def problems_of(table):
    with pytest.raises(DataError) as caught:
        check(table)
    return caught.value.problems


def test_clean_data_pass(tmp_path):
    table = audited(tmp_path, "none")
    check(table)
    result = table.set_index(["stratum", "check"])
    bounds = result.drop(index="words_and_counts", level="check")
    assert (bounds["auroc"] == 0.5).all()
    assert (bounds["passed"] == "yes").all()
    assert result.loc[("swap", "words_and_counts"), "auroc"] <= MAX_WITHOUT_BINDING
    # Colour presence solves the easy stratum by design, so it has no limit there.
    assert result.loc[("easy", "words_and_counts"), "auroc"] > 0.9
    assert result.loc[("easy", "words_and_counts"), "passed"] == ""
    assert result["n"].to_dict() == {
        (stratum, name): 400 if stratum == "all" else 200 for stratum, name in result.index
    }


def test_word_that_marks_false_claims_is_found_in_every_stratum(tmp_path):
    problems = problems_of(audited(tmp_path, "word"))
    for stratum in ("all", "easy", "swap"):
        expected = f"stratum {stratum}, text_bound: found AUROC 1.0000, expected at most 0.50"
        assert any(problem.startswith(expected) for problem in problems)
    assert any(problem.startswith("stratum swap, words_and_counts") for problem in problems)


def test_count_of_the_claimed_colour_is_found_though_both_modalities_are_balanced(tmp_path):
    (problem,) = problems_of(audited(tmp_path, "colour_count"))
    assert problem.startswith("stratum swap, words_and_counts: found AUROC 1.0000")
    assert "expected at most 0.55" in problem
    assert "dataset.leak" in problem


TRAIN, TEST = ["train"] * 4, ["test"] * 4


@pytest.mark.parametrize(
    ("texts", "labels", "splits"),
    [
        ([""] * 8, [0, 1] * 4, TRAIN + TEST),
        (["a", "b"] * 4, [0, 0, 0, 0, 0, 1, 0, 1], TRAIN + TEST),
        (["a", "b"] * 4, [0, 1, 0, 1, 0, 0, 0, 0], TRAIN + TEST),
        (["a", "b"] * 4, [0, 1] * 4, TEST + TEST),
        (["a", "b"] * 4, [0, 1] * 4, TRAIN + TRAIN),
    ],
)
def test_what_cannot_be_computed_is_nan_and_neither_passes_nor_fails(texts, labels, splits):
    samples = pd.DataFrame({"text": texts, "label": labels, "split": splits})
    samples["sample_id"] = samples["image_sha256"] = [str(k) for k in range(8)]
    truth = pd.DataFrame(columns=["sample_id", "category"])
    table = audit(samples, truth).set_index("check")
    assert pd.isna(table.loc["words_and_counts", "auroc"])
    assert table.loc["words_and_counts", "passed"] == ""


def test_counts_are_enough_where_there_are_no_words():
    samples = pd.DataFrame({"text": [""] * 8, "label": [0, 1] * 4, "split": TRAIN + TEST})
    samples["sample_id"] = [str(k) for k in range(8)]
    truth = pd.DataFrame({"sample_id": ["0", "2", "4", "6"], "category": ["red cat"] * 4})
    assert without_binding(samples, truth) == 1
