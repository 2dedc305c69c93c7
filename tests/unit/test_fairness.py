"""Fairness: rates against fairlearn, gaps that are found, and none where there is none."""

import assessed
import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import (
    demographic_parity_difference,
    equal_opportunity_difference,
    false_positive_rate,
    selection_rate,
    true_positive_rate,
)
from sklearn.metrics import accuracy_score, roc_auc_score

from mmlens.evaluation.fairness import assess_groups, shuffled
from mmlens.evaluation.gaps import gap

STATISTICS = {"min_size": 20, "resamples": 300, "seed": 0}
SKLEARN = {
    "accuracy": accuracy_score,
    "true_positive_rate": true_positive_rate,
    "false_positive_rate": false_positive_rate,
    "selection_rate": lambda _, said: selection_rate(said, said),
}


@pytest.fixture(scope="module")
def biased():
    """Group c is guessed at, the others are told well; and the tables of that."""
    samples = assessed.claims(300)
    predictions = assessed.predicted(samples, np.where(samples["group_kind"] == "c", 0.1, 1.5))
    joined = predictions.assign(kind=samples["group_kind"])
    return joined[joined["split"] == "test"], assess_groups(predictions, samples, **STATISTICS)


def test_rates_are_fairlearns_and_within_0_and_1(biased):
    test, (groups, gaps) = biased
    for row in groups.itertuples():
        own = test[test["kind"] == row.group]
        assert row.n == len(own)
        assert 0 <= row.low <= row.value <= row.high <= 1
        if row.metric in SKLEARN:
            expected = SKLEARN[row.metric](own["label"], own["prediction"])
            assert row.value == pytest.approx(expected)
        elif row.metric == "auroc":
            assert row.value == pytest.approx(roc_auc_score(own["label"], own["logit"]))
    found = gaps[gaps["control"] == ""].set_index("metric")["gap"]
    given = (test["label"], test["prediction"])
    for name, function in (
        ("demographic_parity_difference", demographic_parity_difference),
        ("equal_opportunity_difference", equal_opportunity_difference),
    ):
        assert found[name] == pytest.approx(function(*given, sensitive_features=test["kind"]))


def test_areas_across_groups_take_one_label_from_each(biased):
    test, (groups, _) = biased
    inside = test["kind"] == "c"
    for name, label in (("bpsn_auc", 0), ("bnsp_auc", 1)):
        own = test[(inside & (test["label"] == label)) | (~inside & (test["label"] != label))]
        row = groups[(groups["group"] == "c") & (groups["metric"] == name)].iloc[0]
        assert row["value"] == pytest.approx(roc_auc_score(own["label"], own["logit"]))
        assert row["low"] < row["value"] < row["high"]


def test_a_planted_gap_is_found_and_shuffled_groups_have_none(biased):
    _, (_, gaps) = biased
    rows = gaps.set_index(["control", "metric"])
    found, control = (rows.loc[(name, "accuracy_gap")] for name in ("", "shuffled_groups"))
    assert found["worst"] == "c"
    assert found["gap_low"] > 0.2
    assert found["p"] < 0.01
    assert 0 < control["gap"] < control["gap_high"] < found["gap_low"]
    assert control["p"] == 1 / 101
    assert (rows["groups"] == 3).all()


def test_without_a_planted_gap_the_one_that_is_found_is_that_of_chance():
    samples = assessed.claims(300)
    _, gaps = assess_groups(assessed.predicted(samples, 1.0), samples, **STATISTICS)
    rows = gaps.set_index(["control", "metric"])
    for metric in set(gaps["metric"]):
        found, control = (rows.loc[(name, metric)] for name in ("", "shuffled_groups"))
        assert found["gap_low"] <= 0
        assert control["gap_low"] <= found["gap"] <= control["gap_high"]
        assert control["p"] > 0.05


def test_small_groups_are_listed_without_numbers():
    samples = assessed.claims(60)
    samples.loc[samples["sample_id"] == samples["sample_id"].iat[-1], "group_kind"] = "rare"
    groups, gaps = assess_groups(assessed.predicted(samples, 1.0), samples, **STATISTICS)
    rare = groups[groups["group"] == "rare"]
    assert rare["n"].tolist() == [1]
    assert rare["value"].isna().all()
    assert rare["note"].tolist() == ["fewer than 20 samples"]
    assert (gaps["groups"] == 3).all()


def test_answers_have_an_accuracy_alone():
    samples = assessed.claims(60)
    predictions = assessed.predicted(samples, 1.0)
    right = pd.Series(0.3, samples["sample_id"])
    groups, gaps = assess_groups(predictions, samples, right, **STATISTICS)
    assert set(groups["metric"]) == {"accuracy"}
    assert np.allclose(groups["value"], 0.3)
    assert (gaps["p"] == 1).all()


def test_the_interval_of_a_gap_covers_0_where_all_groups_are_alike():
    """By design in 95% of data sets, whatever groups come out best and worst."""
    rng = np.random.default_rng(0)
    missed = []
    for _ in range(200):
        right = rng.random((6, 80)) < 0.7
        counts = rng.multinomial(80, np.full(80, 1 / 80), size=(6, 300))
        replicates = np.einsum("gn,grn->rg", right, counts) / 80
        found = gap(right.mean(1), replicates, list("abcdef"))
        missed.append(found["gap_low"] > 0)
        assert (found["gap_low"] > 0) == (found["p"] < 0.05) or abs(found["p"] - 0.05) < 0.02
    assert np.mean(missed) == pytest.approx(0.05, abs=0.05)


def test_no_gap_without_groups_or_variance():
    undefined = gap([0.5, np.nan], np.ones((10, 2)), ["a", "b"])
    assert np.isnan(undefined["gap"])
    same = gap([0.5, 0.5], np.full((10, 2), 0.5), ["a", "b"])
    assert (same["gap"], same["gap_low"], same["gap_high"], same["p"]) == (0, 0, 0, 1)
    certain = gap([1.0, 0.5], np.tile([1.0, 0.5], (99, 1)), ["a", "b"])
    assert (certain["gap_low"], certain["p"], certain["worst"]) == (0.5, 0.01, "b")


def test_whole_clusters_exchange_their_groups():
    values, clusters = np.array(list("aabbcc")), np.array([1, 2, 1, 2, 3, 3])
    rng = np.random.default_rng(0)
    dealt = shuffled(values, clusters, rng)
    of_cluster = sorted("".join(dealt[clusters == k]) for k in (1, 2, 3))
    assert of_cluster == ["ab", "ab", "cc"]
    unequal = shuffled(values, np.array([1, 1, 1, 2, 2, 3]), rng)
    assert sorted(unequal) == sorted(values)
