"""Metrics against scikit-learn, weights against repeated samples, intervals against theory."""

import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as reference
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import binomtest

from mmlens.evaluation.classification import METRICS, all_metrics, compare, evaluate
from mmlens.evaluation.statistics import (
    bootstrap_weights,
    cluster_variance,
    hierarchical_weights,
    interval,
    mean_interval,
    mean_share,
    share_interval,
)
from mmlens.metrics import (
    as_text,
    auroc,
    average_precision,
    brier,
    calibration_error,
    choose_threshold,
    confusion,
)

# Probabilities on a grid of twelfths tie often; free ones do not.
PROBABILITIES = st.integers(0, 12).map(lambda k: k / 12) | st.floats(0, 1)
ROWS = st.lists(
    st.tuples(st.integers(0, 1), PROBABILITIES, st.integers(0, 4)), min_size=1, max_size=40
)


def columns(rows):
    label, probability, weight = np.array(rows, float).T
    return label.astype(int), probability, (probability >= 0.5).astype(int), weight


def sklearn_metrics(label, probability, prediction, weights=None):
    options = {"sample_weight": weights}
    of_label_1 = options | {"zero_division": 0}
    both = options | {"zero_division": 0, "labels": [0, 1], "average": "macro"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "auroc": reference.roc_auc_score(label, probability, **options),
            "average_precision": reference.average_precision_score(label, probability, **options),
            "accuracy": reference.accuracy_score(label, prediction, **options),
            "precision": reference.precision_score(label, prediction, **of_label_1),
            "recall": reference.recall_score(label, prediction, **of_label_1),
            "f1": reference.f1_score(label, prediction, **of_label_1),
            "f1_macro": reference.f1_score(label, prediction, **both),
            "brier": reference.brier_score_loss(label, probability, **options),
        }


@given(ROWS)
def test_every_metric_is_scikit_learns(rows):
    label, probability, prediction, weights = columns(rows)
    for w in (None, weights):
        used = np.ones(len(label)) if w is None else w
        if len(set(label[used > 0])) < 2:
            assert np.isnan(auroc(label, probability, w))
            continue
        found = all_metrics(label, probability, probability, prediction, w)
        assert set(found) == set(METRICS)
        for metric, value in sklearn_metrics(label, probability, prediction, w).items():
            assert found[metric] == pytest.approx(value, abs=1e-9), metric


@given(ROWS)
def test_weights_are_repetitions_and_a_matrix_is_its_rows(rows):
    label, probability, prediction, weights = columns(rows)
    if weights.sum() > 0:
        given = (label, probability, probability, prediction)
        repeated = [np.repeat(c, weights.astype(int)) for c in given]
        expected = all_metrics(*repeated)
        matrix = np.stack([weights, np.ones(len(label))])
        both, plain = all_metrics(*given, matrix), all_metrics(*given)
        for metric, value in all_metrics(*given, weights).items():
            assert value == pytest.approx(expected[metric], nan_ok=True), metric
            assert both[metric] == pytest.approx([value, plain[metric]], nan_ok=True), metric
        counts = confusion(label, prediction, weights)
        table = reference.confusion_matrix(*repeated[::3], labels=[0, 1])
        assert [counts[c] for c in ("tn", "fp", "fn", "tp")] == table.ravel().tolist()


def test_ranks_are_those_of_the_logits():
    logit = np.array([40.0, 50.0, 60.0, 70.0])
    probability = 1 / (1 + np.exp(-logit))
    found = all_metrics(np.array([0, 0, 1, 1]), logit, probability, np.ones(4, int))
    assert found["auroc"] == found["average_precision"] == 1


@given(ROWS, st.integers(1, 20))
def test_calibration_error_is_the_weighted_gap_of_bins(rows, bins):
    label, probability, _, _ = columns(rows)
    expected = 0
    for b in range(bins):
        inside = np.minimum(np.floor(probability * bins), bins - 1) == b
        if inside.any():
            gap = abs(label[inside].mean() - probability[inside].mean())
            expected += inside.mean() * gap
    assert calibration_error(label, probability, bins=bins) == pytest.approx(expected)


def test_calibration_and_brier_of_known_forecasts():
    label = np.array([0, 0, 1, 1])
    assert calibration_error(label, label) == brier(label, label) == 0
    assert calibration_error(label, 1 - label) == brier(label, 1 - label) == 1
    assert calibration_error(label, np.full(4, 0.5)) == 0
    assert brier(label, np.full(4, 0.5)) == 0.25


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20))
def test_unimodal_scores_of_complete_quads_have_auroc_one_half(quads):
    # texts t, t' with images i, i': label 1 for (t, i) and (t', i'); a model of the text alone
    # gives both rows of a text the same score, so that exactly half of all pairs are won
    label = np.tile([1, 0, 0, 1], len(quads))
    score = np.concatenate([[t, t, other, other] for t, other in quads])
    assert auroc(label, score) == 0.5
    weights = np.repeat(np.arange(len(quads)) % 3 + 1.0, 4)  # whole quads, as in the bootstrap
    assert auroc(label, score, weights) == 0.5
    assert auroc(label, np.zeros(len(label))) == 0.5


def test_average_precision_without_positives_is_undefined():
    assert np.isnan(average_precision([0, 0], [0.1, 0.2]))


@given(ROWS)
@example([(0, np.nextafter(0.6, 0), 1), (1, 0.6, 1)])  # no float lies between these two
def test_chosen_threshold_is_as_accurate_as_any(rows):
    label, probability, _, _ = columns(rows)
    threshold = choose_threshold(label, probability)
    candidates = [*probability, 2.0]
    accuracy = [((probability >= c) == label).mean() for c in candidates]
    assert ((probability >= threshold) == label).mean() == max(accuracy)


def test_chosen_threshold_lies_half_way_and_nearest_to_one_half():
    assert choose_threshold([0, 1], [0.25, 0.5]) == 0.375
    assert choose_threshold([0, 1, 0, 1], [0.0, 0.5, 0.75, 1.0]) == 0.25  # or 0.875
    assert choose_threshold([1, 0, 1], [0.125, 0.375, 0.875]) == 0.625  # or 0.125
    assert choose_threshold([0, 0], [0.25, 1.0]) > 1


CLUSTERS = np.repeat([f"c{k}" for k in range(10)], 4)


def test_bootstrap_draws_whole_clusters_whatever_the_order_of_the_samples():
    weights = bootstrap_weights(CLUSTERS, 50, 0)
    assert weights.shape == (50, 40)
    assert (weights.sum(1) == 40).all()
    assert (weights.reshape(50, 10, 4) == weights[:, ::4, None]).all()
    order = np.random.default_rng(0).permutation(40)
    assert (bootstrap_weights(CLUSTERS[order], 50, 0) == weights[:, order]).all()
    assert (bootstrap_weights(CLUSTERS, 50, 1) != weights).any()


def test_repeating_samples_within_clusters_does_not_narrow_an_interval():
    one_each = np.random.default_rng(0).normal(size=10)
    once = mean_interval(one_each, CLUSTERS[::4], 500, 0)
    often = mean_interval(np.repeat(one_each, 4), CLUSTERS, 500, 0)
    assert often == pytest.approx(once)
    assert once[1] < once[0] < once[2]
    both = mean_interval(np.stack([one_each, 2 * one_each], 1), CLUSTERS[::4], 500, 0)
    assert [part[1] for part in both] == pytest.approx([2 * part for part in once])


def test_interval_of_a_constant_is_that_constant_and_nan_is_ignored():
    assert mean_interval(np.full(40, 0.7), CLUSTERS, 100, 0) == pytest.approx((0.7, 0.7, 0.7))
    mean, *bounds = mean_interval(np.arange(4.0), ["one"] * 4, 100, 0)
    assert mean == 1.5
    assert np.isnan(bounds).all()  # there is nothing to resample
    assert all(isinstance(bound, float) for bound in bounds)
    assert interval([np.nan, *np.linspace(0, 1, 101)]) == pytest.approx((0.025, 0.975))
    assert np.isnan(interval([np.nan, np.nan])).all()


@pytest.mark.parametrize("clusters", [2, 7, 64])
@pytest.mark.parametrize("share", [0, 1])
def test_a_share_of_0_or_1_has_the_exact_interval_of_its_clusters(clusters, share):
    names, values = np.repeat(np.arange(clusters), 3), np.full(3 * clusters, float(share))
    exact = binomtest(share * clusters, clusters).proportion_ci(method="exact")
    mean, *bounds = mean_interval(values, names, 50, 0, share=True)
    assert mean == share
    assert bounds == pytest.approx([exact.low, exact.high])
    assert share_interval(share, names, 0.0) == pytest.approx(tuple(exact))
    both = mean_interval(np.stack([values, names / clusters], 1), names, 50, 0, share=True)
    assert [part[0] for part in both[1:]] == bounds
    # A difference, of which all are 0, is no share.
    assert mean_interval(values, names, 50, 0) == (share, share, share)


@given(st.lists(st.integers(0, 1), min_size=2, max_size=60))
def test_a_share_of_hits_and_misses_has_an_interval_with_width(hits):
    names = np.arange(len(hits))
    mean, low, high = mean_interval(hits, names, 200, 0, share=True)
    assert 0 <= low <= mean <= high <= 1
    assert low < high


@pytest.mark.parametrize(("hits", "trials"), [(1, 64), (63, 64), (9, 20), (500, 2000)])
def test_a_share_of_independent_samples_has_the_exact_interval(hits, trials):
    exact = binomtest(hits, trials).proportion_ci(method="exact")
    share = hits / trials
    values = np.arange(trials) < hits
    assert mean_share(values, np.arange(trials)) == pytest.approx((share, *exact))
    assert mean_share([0, 1, 1, 0], list("xxyy")) == (0.5, 0.5, 0.5)  # all clusters are alike


def test_the_variance_over_clusters_is_that_of_the_bootstrap():
    rng = np.random.default_rng(0)
    values, clusters = rng.random((300, 2)), rng.integers(0, 80, 300)
    weights = bootstrap_weights(clusters, 20000, 0)
    drawn = weights @ values / weights.sum(1, keepdims=True)
    assert cluster_variance(values, clusters) == pytest.approx(drawn.var(0), rel=0.05)
    single, both = cluster_variance(values[:, 0], clusters), cluster_variance(values, clusters)
    assert single == pytest.approx(both[0])


def test_a_share_of_few_clusters_has_an_interval_that_covers():
    rng, hits = np.random.default_rng(0), 0
    clusters = np.repeat(np.arange(5), 20)
    for _ in range(2000):
        values = rng.random(100) < rng.beta(2, 2, 5).repeat(20)
        _, low, high = mean_share(values, clusters)
        hits += low <= 0.5 <= high
    assert 0.94 <= hits / 2000 <= 0.98  # percentiles reach about .84


def test_many_hits_and_misses_have_the_interval_of_percentiles():
    hits = np.random.default_rng(0).random(2000) < 0.3
    clusters = np.repeat(np.arange(500), 4)
    exact = mean_interval(hits, clusters, 2000, 0, share=True)
    assert exact == pytest.approx(mean_interval(hits, clusters, 2000, 0), abs=0.002)


def test_intervals_of_rare_hits_cover_where_percentiles_do_not():
    rng, share, exact, percentiles = np.random.default_rng(0), 0.05, 0, 0
    clusters = np.repeat(np.arange(40), 2)
    for trial in range(300):
        hits = np.repeat(rng.random(40) < share, 2)
        _, low, high = mean_interval(hits, clusters, 300, trial, share=True)
        exact += low <= share <= high
        _, low, high = mean_interval(hits, clusters, 300, trial)
        percentiles += low <= share <= high
    assert exact / 300 >= 0.95 > 0.9 > percentiles / 300


def test_a_share_of_one_cluster_has_no_interval():
    """Neither alone nor among others, where each resample that holds it says the same."""
    assert np.isnan(mean_interval([1.0, 1.0], ["a", "a"], 50, 0, share=True)[1:]).all()
    for share in (0.0, 0.5, 1.0):
        assert np.isnan(share_interval(share, ["a", "a"], 0.1)).all()
    assert np.isnan(share_interval(np.nan, [], np.nan)).all()


def test_intervals_cover_the_mean_of_clustered_values_about_19_times_in_20():
    rng, hits = np.random.default_rng(0), 0
    clusters = np.repeat(np.arange(50), 4)
    for trial in range(300):
        values = np.repeat(rng.normal(size=50), 4) + rng.normal(size=200) / 2
        _, low, high = mean_interval(values, clusters, 200, trial)
        hits += low <= 0 <= high
    assert 0.90 <= hits / 300 <= 0.98  # an interval that ignored the clusters reaches about .7


def test_hierarchical_weights_draw_seeds_and_clusters():
    weights = hierarchical_weights(CLUSTERS, 3, 200, 0)
    assert weights.shape == (200, 3, 40)
    assert (weights.sum((1, 2)) == 3 * 40).all()
    drawn = weights.sum(2) / 40
    assert set(np.unique(drawn)) == {0, 1, 2, 3}
    assert (weights == drawn[:, :, None] * bootstrap_weights(CLUSTERS, 200, 0)[:, None]).all()


def predictions_of(samples, seed):
    rng = np.random.default_rng(seed)
    probability = np.clip(0.3 * samples["label"] + rng.uniform(0, 0.7, len(samples)), 0, 1)
    facts = {"probability": probability, "prediction": (probability >= 0.5).astype(int)}
    # Ranks are those of the logits, also where probabilities are equal.
    facts |= {"logit": 100 * probability, "threshold": 0.5}
    frame = samples[["sample_id", "split", "label"]].assign(**facts)
    return frame.sample(frac=1, random_state=seed)


def classified():
    """40 samples in quads; the stratum "rare" holds 2 positives, "negative" none."""
    index = np.arange(40)
    facts = {"sample_id": [f"{k:02}" for k in index], "split": "test", "cluster_id": CLUSTERS}
    samples = pd.DataFrame(facts).assign(label=np.where(index < 24, index % 2, 0))
    samples.loc[[24, 25], "label"] = 1
    stratum = np.select([index < 24, index < 32], ["even", "rare"], "negative")
    return samples.assign(group_stratum=stratum)


def compared(seeds):
    samples = classified()
    runs = {s: predictions_of(samples, s) for s in seeds}
    results = {("m", s): evaluate(r, samples, resamples=100, seed=0) for s, r in runs.items()}
    every = pd.concat([r.assign(model="m", seed=s) for s, r in runs.items()])
    return compare(results, every, samples, resamples=100, seed=0), runs, samples


def test_evaluation_joins_by_sample_and_reports_subsets():
    table, runs, samples = compared([0])
    joined = samples.merge(runs[0][["sample_id", "probability"]], on="sample_id")
    row = table.set_index("subset").loc["all"]
    assert row["auroc"] == reference.roc_auc_score(joined["label"], joined["probability"])
    assert row["auroc_low"] <= row["auroc"] <= row["auroc_high"]
    assert table["subset"].tolist() == ["all", "even", "negative", "rare"]
    assert row[["tp", "fp", "fn", "tn"]].sum() == row["n"] == 40
    with pytest.raises(ValueError, match="found 39 of 40"):
        evaluate(runs[0].iloc[1:], samples, resamples=2, seed=0)


def test_accuracy_and_recall_of_1_are_shares_of_their_clusters():
    """Over seeds too; AUROC and F1 of 1 have the interval that they had, without width."""
    samples = classified()
    said = samples["label"].to_numpy()
    facts = {"probability": said * 1.0, "logit": said * 1.0, "prediction": said, "threshold": 0.5}
    run = samples[["sample_id", "split", "label"]].assign(**facts)
    results = {("m", s): evaluate(run, samples, resamples=50, seed=0) for s in range(3)}
    every = pd.concat([run.assign(model="m", seed=s) for s in range(3)])
    table = compare(results, every, samples, resamples=50, seed=0).set_index(["seeds", "subset"])
    for seeds in ("0", "0 1 2"):
        row = table.loc[(seeds, "all")]
        assert row["accuracy_low"] == pytest.approx(0.025 ** (1 / 10))
        assert row["recall_low"] == pytest.approx(0.025 ** (1 / 7))  # quads with label 1
        assert (row[["accuracy_high", "recall_high"]] == 1).all()
        assert (row[["auroc_low", "f1_low", "precision_low"]] == 1).all()
        assert np.isnan(table.loc[(seeds, "rare"), "recall_low"])  # of one quad


def test_mean_over_seeds_is_a_row_of_its_own_from_three_seeds_up():
    assert len(compared([0, 1])[0]) == 2 * 4
    table = compared([0, 1, 2])[0].set_index(["seeds", "subset"])
    single = [table.loc[(str(s), "all"), "auroc"] for s in range(3)]
    mean = table.loc[("0 1 2", "all")]
    assert mean["auroc"] == pytest.approx(np.mean(single))
    assert mean["auroc_low"] <= mean["auroc"] <= mean["auroc_high"]


def test_undefined_replicates_are_ignored_in_the_mean_over_seeds():
    table = compared([0, 1, 2])[0].set_index(["seeds", "subset"])
    assert np.isnan(table.loc[("0", "negative"), ["auroc", "auroc_low"]].astype(float)).all()
    assert np.isnan(table.loc[("0 1 2", "negative"), ["auroc", "auroc_low"]].astype(float)).all()
    assert table.loc[("0 1 2", "rare"), "auroc_low"] > 0


def test_numbers_in_text_hide_neither_what_is_below_1_nor_show_a_sign_of_0():
    shown = [as_text(value, 2) for value in (0.5, 1, 0.9996, -0.004, -0.006, float("nan"))]
    assert shown == ["0.50", "1.00", "0.9996", "0.00", "-0.01", "nan"]
