"""DeLong's intervals and tests: a published example, brute force, and clusters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mmlens.evaluation.delong import auroc_covariance, delong_interval, delong_p
from mmlens.evaluation.statistics import bootstrap_weights, interval
from mmlens.metrics import auroc


def test_a_published_example():
    """Ratings of 109 computed tomographies (Hanley & McNeil 1982, table I): area .8932, and with
    DeLong's standard error .0307 the interval [.83295, .95339] (Stata reference, roctab)."""
    counts = {0: (33, 6, 6, 11, 2), 1: (3, 2, 2, 11, 33)}
    label = np.repeat([0, 1], [sum(row) for row in counts.values()])
    rating = np.concatenate([np.repeat([1, 2, 3, 4, 5], row) for row in counts.values()])
    areas, covariance = auroc_covariance(label, rating)
    assert areas[0] == pytest.approx(0.8932, abs=5e-5)
    assert covariance[0, 0] ** 0.5 == pytest.approx(0.0307, abs=5e-5)
    assert delong_interval(label, rating)[1:] == pytest.approx((0.83295, 0.95339), abs=5e-6)


def by_pairs(label, scores):
    """Areas and covariance by DeLong's definition, over all pairs of a positive and a negative."""
    positive, negative = scores[:, label == 1], scores[:, label == 0]
    m, n = positive.shape[1], negative.shape[1]
    wins = (positive[:, :, None] > negative[:, None]) + 0.5 * (
        positive[:, :, None] == negative[:, None]
    )
    of_positives, of_negatives = wins.mean(2), wins.mean(1)
    covariance = np.cov(of_positives).reshape(len(scores), -1) / m
    return wins.mean((1, 2)), covariance + np.cov(of_negatives).reshape(len(scores), -1) / n


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 5), st.integers(0, 5)), min_size=5, max_size=30
    )
)
def test_ranks_are_the_definition(rows):
    label, *scores = np.array(rows).T
    scores = np.stack(scores).astype(float)
    areas, covariance = auroc_covariance(label, scores)
    if min(label.sum(), (1 - label).sum()) < 2:
        assert np.isnan(covariance).all()
        return
    expected = by_pairs(label, scores)
    assert areas == pytest.approx(expected[0], abs=1e-12)
    assert covariance == pytest.approx(expected[1], abs=1e-12)
    assert areas[0] == pytest.approx(roc_auc_score(label, scores[0]), abs=1e-12)


def test_clusters_widen_what_repeated_samples_narrow():
    """Every sample three times as one cluster has the variance of the samples once."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 80)
    scores = rng.normal(size=(2, 80)) + 0.8 * label
    once = auroc_covariance(label, scores)[1]
    copies = np.repeat(np.arange(80), 3)
    repeated = auroc_covariance(label[copies], scores[:, copies], copies)[1]
    assert repeated == pytest.approx(once)
    assert (
        np.diag(auroc_covariance(label[copies], scores[:, copies])[1]) < np.diag(once) / 2
    ).all()


def test_the_interval_is_that_of_the_cluster_bootstrap():
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(150), 4)
    label = np.tile([0, 1, 1, 0], 150)
    score = 0.7 * label + rng.normal(size=600) + np.repeat(rng.normal(size=150), 4)
    weights = bootstrap_weights(clusters, 2000, 0)
    found = delong_interval(label, score, clusters)
    assert found[1:] == pytest.approx(interval(auroc(label, score, weights)), abs=0.004)


def test_equal_models_do_not_differ():
    rng = np.random.default_rng(2)
    label, score = rng.integers(0, 2, 60), rng.normal(size=60)
    areas, covariance = auroc_covariance(label, np.stack([score, score, 1000 * label]))
    assert delong_p(areas, covariance, 0, 1) == (0, 0, 0, 1)
    assert delong_p(areas, covariance, 2, 0)[3] < 1e-6
    # Each area has no variance: one is always right, one always ties.
    areas, covariance = auroc_covariance(label, np.stack([label, 0 * label]))
    assert delong_p(areas, covariance, 0, 1) == (0.5, 0.5, 0.5, 0)
    assert 0 < delong_p(np.array([0.9, 0.1]), np.diag([1e-6, 1e-6]), 0, 1)[3] < 1e-300


def test_one_label_has_no_area():
    areas, covariance = auroc_covariance(np.ones(4), np.arange(4.0))
    assert np.isnan(areas).all()
    assert np.isnan(covariance).all()


def test_under_the_null_p_is_uniform():
    rng = np.random.default_rng(3)
    label, found = np.tile([0, 1], 60), []
    for _ in range(300):
        scores = rng.normal(size=(2, 120)) + label
        found.append(delong_p(*auroc_covariance(label, scores), 0, 1)[3])
    assert np.mean(np.array(found) < 0.05) == pytest.approx(0.05, abs=0.03)
    assert np.mean(found) == pytest.approx(0.5, abs=0.06)
