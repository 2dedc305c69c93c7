"""Paired comparisons: BCa, sign flips and Holm against scipy and against their definitions."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mmlens.evaluation.paired import bca_bounds, bca_interval, holm, sign_flip_p
from mmlens.evaluation.statistics import bootstrap_weights, mean_interval

VALUES = st.lists(st.floats(-100, 100), min_size=2, max_size=12)


def skewed(n, seed=0):
    return np.random.default_rng(seed).exponential(size=n) - 0.4


@pytest.mark.parametrize("n", [8, 40])
def test_bca_on_independent_samples_is_scipys_on_the_same_resamples(n):
    values, clusters = skewed(n), np.arange(n)
    weights = bootstrap_weights(clusters, 2000, seed=3)
    known = SimpleNamespace(bootstrap_distribution=weights @ values / n)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=0, bootstrap_result=known, method="BCa"
    ).confidence_interval
    mean, *found = bca_interval(values, clusters, 2000, seed=3)
    assert mean == values.mean()
    assert found == pytest.approx(list(expected), abs=1e-12)
    # and it is not the percentile interval: skewed differences move both ends up
    percentile = mean_interval(values, clusters, 2000, seed=3)[1:]
    assert found[0] > percentile[0]
    assert found[1] > percentile[1]


def test_bca_with_resamples_of_its_own_agrees_with_scipy():
    values = skewed(50, seed=1)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    found = bca_interval(values, np.arange(50), 20_000, seed=0)[1:]
    assert found == pytest.approx(list(expected), abs=0.02)


def test_copies_of_samples_in_their_clusters_change_nothing():
    values = skewed(20)
    once = bca_interval(values, np.arange(20), 500, seed=0)
    copied = bca_interval(np.repeat(values, 3), np.repeat(np.arange(20), 3), 500, seed=0)
    assert copied == pytest.approx(once, rel=1e-12)
    apart = bca_interval(np.repeat(values, 3), np.arange(60), 500, seed=0)
    assert apart[2] - apart[1] < 0.75 * (once[2] - once[1])
    p = sign_flip_p(values, np.arange(20), 10_000, seed=0)
    assert sign_flip_p(np.repeat(values, 3), np.repeat(np.arange(20), 3), 10_000, 0) == p


def test_jackknife_leaves_out_whole_clusters_of_any_size():
    values, clusters = skewed(9), np.array(list("aabbbcddd"))
    left_out = [values[clusters != name].mean() for name in "abcd"]
    weights = bootstrap_weights(clusters, 800, seed=0)
    replicates = [np.average(values, weights=row) for row in weights]
    expected = bca_bounds(np.array(replicates), values.mean(), np.array(left_out))
    assert bca_interval(values, clusters, 800, seed=0)[1:] == pytest.approx(expected, rel=1e-9)


@given(VALUES, st.floats(-50, 50), st.floats(0.1, 10))
def test_bca_moves_and_stretches_with_its_values(values, shift, scale):
    values, clusters = np.array(values), np.arange(len(values)) // 2
    if np.ptp(values) > 1e-3 and len(values) > 2:
        before = np.array(bca_interval(values, clusters, 99, seed=0))
        after = np.array(bca_interval(scale * values + shift, clusters, 99, seed=0))
        assert after == pytest.approx(scale * before + shift, abs=1e-6)
        assert before[1] <= before[2]


def test_differences_that_are_all_equal_have_an_interval_of_no_width():
    assert bca_interval(np.full(10, 0.1), np.arange(10), 200, seed=0) == (0.1, 0.1, 0.1)


def test_one_cluster_has_a_mean_but_no_interval():
    mean, low, high = bca_interval([1.0, 2.0], ["a", "a"], 200, seed=0)
    assert mean == 1.5
    assert np.isnan([low, high]).all()


def test_columns_are_compared_as_if_alone():
    values, clusters = skewed(60).reshape(20, 3), np.arange(20) // 2
    together = np.array(bca_interval(values, clusters, 300, seed=0))
    p = sign_flip_p(values, clusters, 500, seed=0)
    for k in range(3):
        assert bca_interval(values[:, k], clusters, 300, seed=0) == pytest.approx(together[:, k])
        assert sign_flip_p(values[:, k], clusters, 500, seed=0) == p[k]


@pytest.mark.parametrize("seed", range(4))
def test_exact_sign_flips_are_scipys_permutation_test(seed):
    first, second = np.random.default_rng(seed).normal([[0.6], [0]], size=(2, 9))

    def difference(x, y, axis):
        return np.mean(x - y, axis=axis)

    expected = stats.permutation_test(
        (first, second), difference, permutation_type="samples", vectorized=True, n_resamples=1000
    ).pvalue
    assert sign_flip_p(first - second, np.arange(9), 1000, seed=0) == pytest.approx(expected)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_sign_flips_count_every_pattern_of_clusters(values, random):
    clusters = [random.choice("abcde") for _ in values]
    sums = dict.fromkeys(clusters, 0)
    for value, name in zip(values, clusters, strict=True):
        sums[name] += value
    flipped = [
        abs(sum(s * v for s, v in zip(signs, sums.values(), strict=True)))
        for signs in product((-1, 1), repeat=len(sums))
    ]
    expected = np.mean([total >= abs(sum(values)) for total in flipped])
    # divided by 10, equal sums differ in their last digits
    found = sign_flip_p(np.array(values) / 10, clusters, 1000, seed=0)
    assert found == pytest.approx(expected)
    assert sign_flip_p(-np.array(values) / 10, clusters, 1000, seed=0) == found


def test_drawn_sign_flips_are_near_the_exact_p_and_never_0():
    values = skewed(12) + 0.1
    exact = sign_flip_p(values, np.arange(12), 2**12, seed=0)
    drawn = sign_flip_p(values, np.arange(12), 4000, seed=0)
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=4 * (exact / 4000) ** 0.5)
    assert sign_flip_p(np.ones(40), np.arange(40), 99, seed=0) == 1 / 100
    assert sign_flip_p(np.zeros(40), np.arange(40), 99, seed=0) == 1


def holm_by_definition(p):
    """For every test, the smallest level at which Holm's procedure rejects it, by search."""

    def rejected(level):
        order, out = sorted(range(len(p)), key=lambda k: p[k]), set()
        for step, k in enumerate(order):
            if p[k] > level / (len(p) - step):
                break
            out.add(k)
        return out

    levels = sorted({1.0, *(min(1.0, m * x) for x in p for m in range(1, len(p) + 1))})
    return [
        min((a for a in levels if k in rejected(a * (1 + 1e-12))), default=1) for k in range(len(p))
    ]


@given(st.lists(st.floats(1e-4, 1), min_size=1, max_size=7))
def test_holm_is_its_procedure(p):
    assert holm(p) == pytest.approx(holm_by_definition(p))


def test_holm_of_a_known_family():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_holm_keeps_order_and_lies_between_p_and_bonferroni(p, random):
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(np.array(p) * len(p), 1) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()
    order = random.sample(range(len(p)), len(p))
    assert sorted(holm(np.array(p)[order])) == sorted(adjusted)
