"""Accuracy of answers: per sample, per subset and over seeds, against values worked out by hand."""

import json

import pandas as pd
import pytest

from mmlens.evaluation.answers import compare_answers, evaluate_answers, per_sample

NAMES = ["2", "red", "blue", "no"]
OPTIONS = {"resamples": 200, "seed": 0}
SAMPLES = pd.DataFrame(
    {
        "sample_id": ["a", "b", "c", "d"],
        "split": ["test", "test", "test", "val"],
        "label": [0, 1, 3, 0],
        "cluster_id": ["x", "x", "y", "z"],
        "answers": ['{"two": 0.6}', '{"red": 0.3, "blue": 1.0}', '{"no": 1.0}', '{"2": 1.0}'],
        "group_answer_type": ["number", "other", "yes/no", "number"],
    }
)


def predicted(*best):
    frame = SAMPLES[["sample_id", "split", "label"]].copy()
    frame["prediction"] = [answers[0] for answers in best]
    frame["answers_top5"] = [json.dumps(answers) for answers in best]
    return frame


FIRST = predicted([0, 1], [1, 2], [1, 2], [1, 0])


def test_accuracy_is_that_of_the_first_answer_and_the_best_of_five():
    found = per_sample(FIRST, SAMPLES, NAMES).set_index("sample_id")
    assert found["accuracy"].to_dict() == pytest.approx({"a": 0.6, "b": 0.3, "c": 0})
    assert found["accuracy_top5"].to_dict() == pytest.approx({"a": 0.6, "b": 1, "c": 0})


def test_subsets_are_all_samples_and_every_group():
    subsets = evaluate_answers(FIRST, SAMPLES, NAMES, **OPTIONS)["subsets"]
    assert list(subsets) == ["all", "answer_type=number", "answer_type=other", "answer_type=yes/no"]
    assert subsets["all"]["n"] == 3
    assert subsets["all"]["accuracy"]["value"] == pytest.approx(0.3)
    assert subsets["all"]["accuracy"]["low"] <= 0.3 <= subsets["all"]["accuracy"]["high"]
    assert subsets["answer_type=other"]["accuracy_top5"]["value"] == 1
    wrong = evaluate_answers(predicted([3], [3], [0], [0]), SAMPLES, NAMES, **OPTIONS)
    found = wrong["subsets"]["all"]["accuracy"]
    assert found == pytest.approx({"value": 0, "low": 0, "high": 1 - 0.025 ** (1 / 2)})


def test_a_missing_prediction_is_an_error():
    with pytest.raises(ValueError, match="found 2 of 3 samples"):
        evaluate_answers(FIRST.drop(index=1), SAMPLES, NAMES, **OPTIONS)


def test_from_three_seeds_up_there_is_a_row_of_their_mean():
    second, third = predicted([0], [2], [3], [0]), predicted([1], [1], [1], [1])
    runs = {0: FIRST, 1: second, 2: third}
    predictions = pd.concat(
        [run.assign(model="m", seed=seed) for seed, run in runs.items()], ignore_index=True
    )
    results = {
        ("m", seed): evaluate_answers(run, SAMPLES, NAMES, **OPTIONS) for seed, run in runs.items()
    }
    table = compare_answers(results, predictions, SAMPLES, NAMES, **OPTIONS)
    overall = table[table["subset"] == "all"].set_index("seeds")
    assert overall["accuracy"].to_dict() == pytest.approx(
        {"0": 0.3, "1": 2.6 / 3, "2": 0.1, "0 1 2": (0.9 + 2.6 + 0.3) / 9}
    )
    assert overall.loc["0 1 2", "accuracy_low"] < overall.loc["0 1 2", "accuracy_high"]


@pytest.mark.parametrize(("any_present", "expected"), [(False, [1, 0]), (True, [1, 1])])
def test_a_class_is_right_if_it_is_the_label_or_present_at_all(any_present, expected):
    samples = (
        SAMPLES.drop(columns="answers")
        .iloc[:2]
        .assign(label_name=["2", "red"], targets=['["2"]', '["red", "blue"]'])
    )
    predictions = predicted([0, 1], [2, 3], [0], [0]).iloc[:2]
    found = per_sample(predictions, samples, NAMES, any_present)
    assert found["accuracy"].tolist() == expected
