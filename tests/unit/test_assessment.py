"""Calibration, confounders, checks, pairs of models, seeds and answers by type."""

import json

import assessed
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from mmlens.evaluation import calibration
from mmlens.evaluation.answers import best_constant
from mmlens.evaluation.calibration import assess_calibration, fit_temperature, likelihood_loss
from mmlens.evaluation.checks import check_leakage, check_predictions, shuffled_auroc
from mmlens.evaluation.classification import compare, evaluate
from mmlens.evaluation.confounders import confounder_accuracy
from mmlens.evaluation.model_pairs import compare_models, mcnemar_p
from mmlens.evaluation.question_types import accuracy_by_type
from mmlens.evaluation.seeds import summarise_seeds
from mmlens.evaluation.statistics import bootstrap_weights
from mmlens.figures.reliability import reliability_diagrams
from mmlens.metrics import calibration_error
from mmlens.report.evaluation import calibration_table

STATISTICS = {"resamples": 200, "seed": 0}


@pytest.fixture(scope="module")
def samples():
    return assessed.claims(200)


def truth_of(samples):
    return samples.set_index("sample_id")["label"]


def test_the_diagram_says_where_no_temperature_was_fitted(samples):
    predictions = assessed.predicted(samples, 1.5)
    for scored, title, legend in (
        (predictions, "scaled 0.", ["as predicted", "temperature-scaled"]),
        (predictions[predictions["split"] == "test"], "not scaled", ["as predicted"]),
    ):
        row, bins = assess_calibration(scored, samples, truth_of(samples), **STATISTICS)
        named = {"model": "m", "seed": 0}
        figure = reliability_diagrams(bins.assign(**named), pd.DataFrame([row | named]))
        assert title in figure.axes[0].get_title()
        assert [text.get_text() for text in figure.legends[0].get_texts()] == legend
        figure.canvas.draw()
        shown = figure.legends[0].get_window_extent()
        assert 0 <= shown.x0 < shown.x1 <= figure.bbox.width


def test_one_temperature_makes_an_overconfident_model_calibrated(samples):
    rng = np.random.default_rng(0)
    honest = rng.normal(size=len(samples)) * 1.5
    label = (rng.random(len(samples)) < 1 / (1 + np.exp(-honest))).astype(int)
    samples = samples.assign(label=label)
    predictions = assessed.predicted(samples, 0.0).assign(
        logit=4 * honest, probability=1 / (1 + np.exp(-4 * honest))
    )
    row, bins = assess_calibration(predictions, samples, truth_of(samples), **STATISTICS)
    assert row["temperature"] == pytest.approx(4, rel=0.25)
    assert row["ece_scaled_high"] < row["ece_low"]
    assert row["nll_scaled"] < row["nll"]
    assert set(bins["scaled"]) == {"yes", "no"}
    for _, part in bins.groupby("scaled"):
        assert part["n"].sum() == row["n"]
        error = (part["n"] * (part["share"] - part["confidence"]).abs()).sum() / row["n"]
        expected = row["ece_scaled"] if part["scaled"].iat[0] == "yes" else row["ece"]
        assert error == pytest.approx(expected)


def honest_model(quads, factor, seed=0):
    """Samples, and predictions that come true as often as they say, with logits times `factor`."""
    samples = assessed.claims(quads)
    rng = np.random.default_rng(seed)
    logit = rng.normal(size=len(samples)) * 1.5
    samples["label"] = (rng.random(len(samples)) < 1 / (1 + np.exp(-logit))).astype(int)
    return samples, assessed.predicted(samples, 0.0).assign(logit=factor * logit)


def test_the_fall_of_the_error_is_judged_by_a_paired_interval():
    samples, predictions = honest_model(200, 3.0)
    row, _ = assess_calibration(predictions, samples, truth_of(samples), **STATISTICS)
    assert 0 < row["ece_drop_low"] < row["ece_drop"] < row["ece_drop_high"]
    assert row["ece_drop"] == pytest.approx(row["ece"] - row["ece_scaled"])
    shown = calibration_table(pd.DataFrame([row | {"model": "m", "seed": 0}]))
    assert shown["ece drop"].iat[0][1] == row["ece_drop"]
    # By hand: both errors on the same resamples, moved by what resampling itself adds.
    test = samples["split"] == "test"
    logit, label = predictions.loc[test, "logit"], samples.loc[test, "label"]
    weights = bootstrap_weights(samples.loc[test, "cluster_id"], **STATISTICS)
    both = [1 / (1 + np.exp(-logit / t)) for t in (1, row["temperature"])]
    drawn = np.array(
        [np.subtract(*(calibration_error(label, p, own) for p in both)) for own in weights]
    )
    bounds = np.percentile(drawn - drawn.mean() + row["ece_drop"], [2.5, 97.5])
    assert [row["ece_drop_low"], row["ece_drop_high"]] == pytest.approx(bounds)
    # Paired it is narrower than the intervals of the two errors together.
    width = sum(row[f"{name}_high"] - row[f"{name}_low"] for name in ("ece", "ece_scaled"))
    assert row["ece_drop_high"] - row["ece_drop_low"] < width


def test_the_error_of_a_calibrated_model_does_not_fall(monkeypatch):
    samples, predictions = honest_model(200, 1.0)
    row, _ = assess_calibration(predictions, samples, truth_of(samples), **STATISTICS)
    assert row["ece_drop_low"] <= 0 <= row["ece_drop_high"]
    # Nor by a temperature that changes nothing; one that ruins it makes it rise.
    for temperature, sign in ((1.0, 0), (0.1, -1)):
        monkeypatch.setattr(calibration, "fit_temperature", lambda *_, t=temperature: t)
        row, _ = assess_calibration(predictions, samples, truth_of(samples), **STATISTICS)
        found = [row["ece_drop_low"], row["ece_drop"], row["ece_drop_high"]]
        assert np.sign(found).tolist() == [sign] * 3


def test_bins_that_came_true_always_or_never_have_exact_intervals(samples):
    _, bins = assess_calibration(
        assessed.predicted(samples, 100.0), samples, truth_of(samples), **STATISTICS
    )
    never, always = bins[bins["scaled"] == "no"].to_dict("records")
    edge = 0.025 ** (1 / 150)  # every quad of test has both labels
    assert (never["share_low"], never["share_high"]) == pytest.approx((0, 1 - edge))
    assert (always["share_low"], always["share_high"]) == pytest.approx((edge, 1))


@given(st.lists(st.tuples(st.floats(-8, 8), st.integers(0, 1)), min_size=2, max_size=30))
def test_the_temperature_is_the_best_there_is(rows):
    logit, truth = np.array(rows).T
    best = likelihood_loss(logit, truth, fit_temperature(logit, truth))
    for temperature in np.exp(np.linspace(-5.9, 5.9, 60)):
        assert best <= likelihood_loss(logit, truth, temperature) + 1e-4


def test_without_validation_predictions_there_is_no_temperature(samples):
    predictions = assessed.predicted(samples, 1.0)
    predictions = predictions[predictions["split"] == "test"]
    row, bins = assess_calibration(predictions, samples, truth_of(samples), **STATISTICS)
    assert np.isnan(row["temperature"])
    assert np.isnan(row["ece_scaled"])
    assert np.isnan([row["ece_drop"], row["ece_drop_low"], row["ece_drop_high"]]).all()
    assert "add val to predict.splits" in row["note"]
    assert set(bins["scaled"]) == {"no"}


def test_confounders_are_right_as_a_whole(samples):
    """A model that reads texts alone is right about no text, and one that knows all about all."""
    knows = assessed.predicted(samples, 100.0)
    found = confounder_accuracy(knows, samples, **STATISTICS).set_index("kind")
    assert found["value"].tolist() == [1, 1, 1]
    assert found["low"].tolist() == pytest.approx([0.025 ** (1 / 150)] * 3)  # of 150 quads
    assert found["groups"].tolist() == [300, 300, 150]
    of_text = samples["text"].str.endswith("1").astype(int)
    reads = knows.assign(prediction=of_text.to_numpy())
    found = confounder_accuracy(reads, samples, **STATISTICS).set_index("kind")
    assert found.loc["text", "value"] == found.loc["quad", "value"] == 0
    assert found.loc["image", "value"] == pytest.approx(0.5, abs=0.1)
    assert found.loc["quad", "chance"] == pytest.approx(0.5**4)
    guessed = assessed.predicted(samples, 0.0)
    found = confounder_accuracy(guessed, samples, **STATISTICS)
    assert (found["low"] <= found["chance"]).all()
    assert (found["chance"] <= found["high"]).all()


def test_groups_of_one_label_are_no_confounders(samples):
    alike = samples.assign(label=0, quad_id="")
    assert confounder_accuracy(assessed.predicted(alike, 1.0), alike, **STATISTICS).empty


def passed(table):
    return table.set_index("check")["passed"].to_dict()


def test_good_predictions_pass_every_check(samples):
    found = check_predictions(assessed.predicted(samples, 1.0), samples, **STATISTICS)
    assert set(found["passed"]) == {"yes"}
    null = found.set_index("check").loc["better_than_shuffled_labels"]
    assert null["value"] == pytest.approx(0.5, abs=0.01)
    assert null["low"] < 0.5 < null["high"]


@pytest.mark.parametrize(
    ("check", "change"),
    [
        ("no_null_predictions", lambda p: p.assign(prediction=p["prediction"].where(p.index > 0))),
        ("valid_predictions", lambda p: p.assign(prediction=p["prediction"].where(p.index > 0, 2))),
        ("valid_probability_range", lambda p: p.assign(probability=p["probability"] * 3)),
        ("no_null_probabilities", lambda p: p.assign(probability=np.nan)),
        ("class_distribution", lambda p: p.assign(prediction=0)),
        ("better_than_random", lambda p: p.assign(logit=-p["logit"])),
        ("better_than_shuffled_labels", lambda p: p.assign(logit=0.0)),
    ],
)
def test_each_check_finds_its_fault(samples, check, change):
    predictions = assessed.predicted(samples, 1.0)
    found = passed(check_predictions(change(predictions), samples, **STATISTICS))
    assert found[check] == "no"


def test_a_doubled_prediction_is_counted(samples):
    predictions = assessed.predicted(samples, 1.0)
    extra = predictions[predictions["split"] == "val"].head(1)
    doubled = pd.concat([predictions, extra], ignore_index=True)
    found = check_predictions(doubled, samples, **STATISTICS)
    assert passed(found)["prediction_count"] == "no"


def test_shuffled_labels_are_at_chance_even_where_scores_tie():
    label = np.tile([0, 1], 50)
    assert shuffled_auroc(label, np.zeros(100), 0) == (0.5, 0.5, 0.5)
    mean, low, high = shuffled_auroc(label, label, 0)
    assert mean == pytest.approx(0.5, abs=0.01)
    assert low < 0.5 < high


def test_leakage_is_found_by_id_bytes_and_looks():
    samples = assessed.claims(4)
    samples["split"] = ["train"] * 8 + ["test"] * 8
    names = samples["image"].unique()
    hashes = {name: f"{(k + 1) * 0x0F0F_0F0F_0F0F:016x}" for k, name in enumerate(names)}
    clean = check_leakage(samples, hashes, 4)
    assert passed(clean) == {
        "leakage_ids": "yes",
        "leakage_images": "yes",
        "leakage_near_duplicate_images": "yes",
        "leakage_texts": "",
    }
    # One image of test is one of train but for two bits, one text and one file are the same.
    hashes[names[4]] = f"{int(hashes[names[0]], 16) ^ 0b101:016x}"
    samples.loc[12, "image_sha256"] = samples.loc[0, "image_sha256"]
    samples.loc[15, "text"] = samples.loc[0, "text"]
    found = check_leakage(samples, hashes, 4).set_index("check")
    assert found["value"].to_dict() == {
        "leakage_ids": 0,
        "leakage_images": 1,
        "leakage_near_duplicate_images": 2,
        "leakage_texts": 1,
    }
    assert (
        found.loc["leakage_near_duplicate_images", "note"] == f"the first: {names[4]}, {names[0]}"
    )


def test_near_duplicates_are_counted_by_content_and_without_training_nothing_is_judged():
    samples = assessed.claims(4)
    samples["split"] = ["train"] * 8 + ["test"] * 8
    names = samples["image"].unique()
    hashes = {name: f"{(k + 1) * 0x0F0F_0F0F_0F0F:016x}" for k, name in enumerate(names)}
    hashes[names[4]] = hashes[names[5]] = hashes[names[0]]
    samples.loc[samples["image"] == names[5], "image_sha256"] = samples.loc[8, "image_sha256"]
    found = check_leakage(samples, hashes, 4).set_index("check")
    assert found.loc["leakage_near_duplicate_images", "value"] == 4
    alone = check_leakage(samples[samples["split"] == "test"], hashes, 4)
    assert set(alone["passed"]) == {""}
    assert set(alone["note"]) == {"no other split to compare with"}


def test_an_answer_that_is_always_the_same_is_no_better_than_itself():
    cells = [{"yes": 0.6}, {"yes": 1.0}, {"no": 1.0}, {"no": 0.3, "yes": 0.9}] * 20
    frame = pd.DataFrame({"sample_id": [f"{k}" for k in range(80)], "split": "test"})
    frame["cluster_id"] = frame["sample_id"]
    frame["label"] = [max(cell, key=cell.get) == "no" for cell in cells]
    frame["answers"] = [json.dumps(cell) for cell in cells]
    constant = best_constant(frame)
    assert constant.mean() == pytest.approx(2.5 / 4)
    predictions = frame[["sample_id", "split", "label"]].assign(
        prediction=[0] * 79 + [1], probability=0.5, logit=0.0
    )
    for right, passes in ((constant, "no"), (constant * 0 + 1, "yes")):
        found = check_predictions(predictions, frame, right, constant, **STATISTICS)
        assert passed(found)["better_than_random"] == passes
    found = check_predictions(predictions, frame, constant, constant, classes=1, **STATISTICS)
    assert passed(found)["valid_predictions"] == "no"


def test_the_error_of_a_calibrated_model_is_what_chance_gives(samples):
    rng = np.random.default_rng(3)
    logit = rng.normal(size=len(samples))
    label = (rng.random(len(samples)) < 1 / (1 + np.exp(-logit))).astype(int)
    honest = samples.assign(label=label)
    predictions = assessed.predicted(honest, 0.0).assign(
        logit=logit, probability=1 / (1 + np.exp(-logit))
    )
    row, _ = assess_calibration(predictions, honest, truth_of(honest), **STATISTICS)
    assert row["ece_low"] <= row["ece"] <= row["ece_high"]
    assert row["ece"] == pytest.approx(row["ece_if_calibrated"], abs=0.02)
    apart, _ = assess_calibration(
        predictions.assign(logit=8 * logit), honest, truth_of(honest), **STATISTICS
    )
    assert apart["ece_low"] > apart["ece_if_calibrated"]
    separable = assessed.predicted(samples, 100.0)
    row, _ = assess_calibration(separable, samples, truth_of(samples), **STATISTICS)
    assert "no best temperature" in row["note"]


def test_models_are_compared_sample_by_sample(samples):
    parts = [
        assessed.predicted(samples, signal, seed).assign(model=name, seed=0)
        for seed, (name, signal) in enumerate((("good", 2.0), ("fair", 0.5), ("same", 0.5)))
    ]
    predictions = pd.concat(parts, ignore_index=True)
    table = compare_models(predictions, samples, **STATISTICS)
    assert set(table["test"]) == {"delong", "mcnemar", "permutation"}
    assert (table["p_holm"] >= table["p"]).all()
    pairs = table.set_index(["test", "model_a", "model_b"])
    for test in ("delong", "mcnemar", "permutation"):
        assert pairs.loc[(test, "good", "fair"), "verdict"] == "A better"
        assert pairs.loc[(test, "fair", "same"), "verdict"] == "not separable"
    row = pairs.loc[("permutation", "good", "fair")]
    right = [p[p["split"] == "test"].eval("prediction == label") for p in parts]
    assert row["difference"] == pytest.approx(right[0].mean() - right[1].mean())
    assert row["difference_low"] < row["difference"] < row["difference_high"]


def test_mcnemar_counts_what_one_model_alone_is_right_about():
    differences = np.array([1] * 9 + [-1] * 2 + [0] * 50)
    assert mcnemar_p(differences) == binomtest(9, 11).pvalue
    assert mcnemar_p(np.zeros(5)) == 1


def test_one_model_has_no_pairs(samples):
    predictions = assessed.predicted(samples, 1.0).assign(model="only", seed=0)
    assert compare_models(predictions, samples, **STATISTICS).empty


@pytest.mark.parametrize("count", [1, 2, 3])
def test_seeds_have_a_mean_a_deviation_and_from_three_an_interval(samples, count):
    parts = [assessed.predicted(samples, 1.0, k).assign(model="m", seed=k) for k in range(count)]
    results = {("m", k): evaluate(part, samples, **STATISTICS) for k, part in enumerate(parts)}
    table = summarise_seeds(compare(results, pd.concat(parts), samples, **STATISTICS))
    if count == 1:
        assert table.empty
        return
    row = table[(table["subset"] == "all") & (table["metric"] == "auroc")].iloc[0]
    values = [results["m", k]["subsets"]["all"]["auroc"]["value"] for k in range(count)]
    assert row["mean"] == pytest.approx(np.mean(values))
    assert row["sd"] == pytest.approx(np.std(values, ddof=1))
    assert pd.notna(row["low"]) == (count == 3)


def test_answers_by_type_and_those_to_other_questions():
    rows = 40
    frame = pd.DataFrame(
        {
            "sample_id": [f"{k}" for k in range(rows)],
            "split": "test",
            "label": [k % 2 for k in range(rows)],
            "label_name": [("yes", "no")[k % 2] for k in range(rows)],
            "answers": [json.dumps({("yes", "no")[k % 2]: 1.0}) for k in range(rows)],
            "cluster_id": [f"{k // 2}" for k in range(rows)],
            "group_answer_type": ["a" if k < 20 else "b" for k in range(rows)],
        }
    )
    said = [k % 2 if k < 20 else 0 for k in range(rows)]
    predictions = pd.DataFrame(
        {
            "sample_id": frame["sample_id"],
            "split": "test",
            "label": frame["label"],
            "prediction": said,
            "answers_top5": [json.dumps([k]) for k in said],
        }
    )
    table = accuracy_by_type(predictions, frame, ["yes", "no"], **STATISTICS)
    found = table.set_index(["control", "subset"])["value"]
    assert found["", "answer_type=a"] == 1
    bounds = table.set_index(["control", "subset"])["low"]
    assert bounds["", "answer_type=a"] == pytest.approx(0.025 ** (1 / 10))
    assert found["", "answer_type=b"] == found["", "all"] - 0.25 == 0.5
    control = table[table["control"] == "shuffled_answers"].set_index("subset").loc["all"]
    assert control["low"] <= 0.5 <= control["high"]
