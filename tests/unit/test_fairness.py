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
from mmlens.figures.fairness import group_intervals

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
    found = gaps.set_index("metric")["gap"]
    given = (test["label"], test["prediction"])
    for name, function in (
        ("demographic_parity_difference", demographic_parity_difference),
        ("equal_opportunity_difference", equal_opportunity_difference),
    ):
        assert found[name] == pytest.approx(function(*given, sensitive_features=test["kind"]))


def test_the_figure_leaves_out_what_has_one_group(biased):
    groups, gaps = (table.assign(model="m", seed=0) for table in biased[1])
    alone = groups[groups["group"] == "c"].assign(column="alone")
    (axis,) = group_intervals(pd.concat([groups, alone]), gaps).axes
    assert axis.get_title() == "kind: a gap in 1 of 1 models"
    (said,) = group_intervals(alone, gaps).axes[0].texts
    assert said.get_text() == "not applicable: no two groups have enough samples"


def test_areas_across_groups_take_one_label_from_each(biased):
    test, (groups, _) = biased
    inside = test["kind"] == "c"
    for name, label in (("bpsn_auc", 0), ("bnsp_auc", 1)):
        own = test[(inside & (test["label"] == label)) | (~inside & (test["label"] != label))]
        row = groups[(groups["group"] == "c") & (groups["metric"] == name)].iloc[0]
        assert row["value"] == pytest.approx(roc_auc_score(own["label"], own["logit"]))
        assert row["low"] < row["value"] < row["high"]


def test_a_planted_gap_is_found_beyond_that_of_chance(biased):
    _, (_, gaps) = biased
    found = gaps.set_index("metric").loc["accuracy_gap"]
    assert found["worst"] == "c"
    assert found["gap_low"] > 0.2
    assert found["p"] < 0.01
    assert 0 < found["shuffled"] < found["shuffled_high"] < found["gap_low"]
    assert found["p_shuffled"] == 1 / 101
    assert found["groups"] == 3


def test_without_a_planted_gap_the_one_that_is_found_is_that_of_chance():
    samples = assessed.claims(300)
    _, gaps = assess_groups(assessed.predicted(samples, 1.0), samples, **STATISTICS)
    assert len(gaps) == 5
    assert (gaps["gap_low"] <= 0).all()
    assert (gaps["shuffled_low"] <= gaps["gap"]).all()
    assert (gaps["gap"] <= gaps["shuffled_high"]).all()
    assert (gaps["p_shuffled"] > 0.01).all()


def test_rare_labels_give_no_rates():
    """With two positives a rate of 0 or 1 would have no variance, and any gap would be certain."""
    samples = assessed.claims(100)
    keep = (samples["label"] == 0) | (samples.index % 20 == 1)
    samples = samples[keep].reset_index(drop=True)
    groups, gaps = assess_groups(assessed.predicted(samples, 1.0), samples, **STATISTICS)
    rates = groups.pivot(index="group", columns="metric", values="value")
    assert rates[["true_positive_rate", "auroc"]].isna().all(axis=None)
    assert rates[["false_positive_rate", "accuracy"]].notna().all(axis=None)
    undefined = gaps.set_index("metric").loc["equal_opportunity_difference"]
    assert undefined[["gap", "p", "p_shuffled"]].isna().all()


def test_groups_of_one_label_and_of_no_group_are_not_compared():
    samples = assessed.claims(200, groups=("a", "b", "c", "d"))
    kinds = {"c": "", "d": "d"}
    samples["group_kind"] = samples["group_kind"].replace(kinds)
    samples = samples[(samples["group_kind"] != "d") | (samples["label"] == 0)]
    groups, gaps = assess_groups(assessed.predicted(samples, 1.0), samples, **STATISTICS)
    notes = groups.drop_duplicates("group").set_index("group")["note"]
    assert notes.to_dict() == {
        "": "of no group, not compared",
        "a": "",
        "b": "",
        "d": "only label 0, not compared",
    }
    assert set(gaps["groups"]) == {2}
    assert set(gaps["best"]) | set(gaps["worst"]) == {"a", "b"}


def test_one_cluster_has_no_intervals():
    samples = assessed.claims(100).assign(cluster_id="one")
    groups, gaps = assess_groups(assessed.predicted(samples, 1.0), samples, **STATISTICS)
    assert groups[groups["metric"] == "accuracy"]["low"].isna().all()
    assert gaps["gap"].notna().all()
    assert gaps[["gap_low", "p"]].isna().all(axis=None)


def test_rates_of_0_and_1_are_shares_of_the_clusters_of_their_label():
    samples = assessed.claims(100)
    test = samples[samples["split"] == "test"]
    # Without a quad's label 1, its quad tells nothing of the true positive rate.
    samples = samples.drop(index=test.index[(test["label"] == 1) & (test["cluster_id"] < "q5")])
    groups, gaps = assess_groups(assessed.predicted(samples, 100.0), samples, **STATISTICS)
    test = samples[samples["split"] == "test"]
    found = groups.set_index(["group", "metric"])
    for kind, own in test.groupby("group_kind"):
        for metric, of_whom in (
            ("accuracy", own),
            ("true_positive_rate", own[own["label"] == 1]),
            ("false_positive_rate", own[own["label"] == 0]),
        ):
            row, edge = found.loc[(kind, metric)], 0.025 ** (1 / of_whom["cluster_id"].nunique())
            expected = (0, 1 - edge) if metric == "false_positive_rate" else (edge, 1)
            assert (row["low"], row["high"]) == pytest.approx(expected)
        assert found.loc[(kind, "auroc"), "low"] == 1
    own = test[test["group_kind"] == "a"]
    assert own["cluster_id"].nunique() > own.loc[own["label"] == 1, "cluster_id"].nunique()
    assert (gaps.set_index("metric").loc["accuracy_gap", ["gap", "gap_high"]] == 0).all()


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


def test_groups_lie_in_clusters_as_before_when_they_are_dealt():
    rng = np.random.default_rng(0)
    values, clusters = np.array(list("aababc")), np.array([1, 1, 2, 2, 3, 3])
    for _ in range(20):
        dealt = shuffled(values, clusters, rng)
        pairs = sorted("".join(sorted(dealt[clusters == k])) for k in (1, 2, 3))
        assert pairs == ["aa", "ab", "bc"]
    # Of one group each, clusters of any size exchange theirs.
    values, clusters = np.array(list("aaabbc")), np.array([1, 1, 1, 2, 2, 3])
    found = {"".join(shuffled(values, clusters, rng)) for _ in range(40)}
    assert {"aaabbc", "cccaab"} <= found | {"cccaab"}
    assert all(len(set(text[:3])) == len(set(text[3:5])) == 1 for text in found)
    assert len(found) == 6


def test_chance_is_calibrated_where_images_have_many_questions():
    """Groups of images, whose questions are right together: no more than 5% of p below .05."""
    rng = np.random.default_rng(1)
    small = []
    for run in range(60):
        sizes = rng.integers(4, 12, 60)
        image = np.repeat(np.arange(60), sizes)
        label = rng.integers(0, 2, len(image))
        kind = np.array(["a", "b", "c"])[rng.integers(0, 3, 60)][image]
        luck = rng.normal(size=60)[image]
        said = np.where(luck + rng.normal(size=len(image)) > -0.5, label, 1 - label)
        samples = pd.DataFrame({"sample_id": [f"{k}" for k in range(len(image))], "label": label})
        samples = samples.assign(split="test", cluster_id=image.astype(str), group_kind=kind)
        predictions = samples[["sample_id", "split", "label"]].assign(
            logit=said - 0.5, probability=said, prediction=said
        )
        _, gaps = assess_groups(predictions, samples, min_size=20, resamples=20, seed=run)
        small.append(gaps.set_index("metric").loc["accuracy_gap", "p_shuffled"] < 0.05)
    assert np.mean(small) < 0.15
