"""Paired comparisons: BCa intervals, sign-flip permutation tests and Holm's correction.

All of them take per-sample differences and respect that the samples of a cluster (a quad, an
image) hang together.
"""

from statistics import NormalDist

import numpy as np

from ..files import seed_from
from .statistics import bootstrap_weights

NORMAL = NormalDist()
LEVEL = 0.05  # of all tests
PERMUTATIONS = 10_000
PER_TEST = 100  # permutations per test of a family, since Holm's least p is its size times theirs
FLIPS_AT_ONCE = 1000  # rows of a block of signs, so that many clusters need little memory


def cluster_sums(values, clusters):
    """Sums (C, K) of values (N, K) over the samples of each cluster, and their numbers (C,)."""
    _, member = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    sizes = np.bincount(member)
    sums = np.zeros((len(sizes), values.shape[1]))
    np.add.at(sums, member, values)
    return sums, sizes


def bca_interval(values, clusters, resamples, seed):
    """Mean of per-sample values with its BCa 95% interval over clusters: (mean, low, high).

    Bias-corrected and accelerated bootstrap (Efron 1987; Efron & Tibshirani 1993, eqs. 14.9 to
    14.15): whole clusters are resampled, and the acceleration comes from the jackknife that leaves
    out one cluster. The resamples are those of `statistics.mean_interval`.

    Parameters
    ----------
    values : (N,) or (N, K); with K columns all results are (K,) and share their resamples
    clusters : (N,) cluster of every sample

    Returns
    -------
    mean, low, high; low and high are NaN for fewer than two clusters, and the mean where no
    resample differs from it.
    """
    values = np.asarray(values, float)
    columns = values.reshape(len(values), -1)
    weights = bootstrap_weights(clusters, resamples, seed)
    replicates = weights @ columns / weights.sum(1, keepdims=True)
    sums, sizes = cluster_sums(columns, clusters)
    means = columns.mean(0)
    if len(sizes) < 2:
        low = high = np.full(len(means), np.nan)
    else:
        left_out = (sums.sum(0) - sums) / (sizes.sum() - sizes)[:, None]
        bounds = [
            bca_bounds(*column) for column in zip(replicates.T, means, left_out.T, strict=True)
        ]
        low, high = np.array(bounds).T
    return tuple(part.reshape(values.shape[1:])[()] for part in (means, low, high))


def bca_bounds(replicates, estimate, left_out, level=0.95):
    """BCa interval (low, high) of one statistic.

    replicates : (R,) of its bootstrap; estimate : its value; left_out : (C,) of its jackknife
    """
    # Values that are equal but for rounding tie.
    noise = 1e-10 * np.abs(replicates).max()
    if np.ptp(replicates) <= noise:
        return estimate, estimate
    apart = replicates - estimate
    below = ((apart < -noise).mean() + (apart <= noise).mean()) / 2
    # All on one side, as with very few resamples: half a resample lies on the other.
    half = 0.5 / len(replicates)
    bias = NORMAL.inv_cdf(min(max(below, half), 1 - half))
    change = left_out.mean() - left_out
    spread = (change**2).sum() ** 1.5
    acceleration = (change**3).sum() / (6 * spread) if spread > 0 else 0.0
    shares = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        shifted = bias + NORMAL.inv_cdf(tail)
        shares.append(NORMAL.cdf(bias + shifted / (1 - acceleration * shifted)))
    low, high = np.quantile(replicates, shares)
    return float(low), float(high)


def sign_flip_p(values, clusters, permutations, seed):
    """Two-sided p that the mean of per-sample differences is 0, by flipping signs of clusters.

    Where two methods are exchangeable within every cluster, the sum of a cluster's differences is
    as likely as its negative (Fisher 1935, sec. 21). With no more than
    `permutations` patterns of signs all are counted, which is exact; else so many are drawn, and p
    is (r + 1) / (R + 1), so that it is never 0 (Phipson & Smyth 2010).

    Parameters
    ----------
    values : (N,) or (N, K); with K columns the result is (K,), and all share their signs
    clusters : (N,) cluster of every sample

    Returns
    -------
    float or (K,); 1 where all sums are 0.
    """
    values = np.asarray(values, float)
    sums, sizes = cluster_sums(values.reshape(len(values), -1), clusters)
    # Values that are equal but for rounding tie.
    observed = np.abs(sums.sum(0)) - 1e-9 * np.abs(sums).sum(0)
    count, exact = len(sizes), 2 ** len(sizes) <= permutations
    total = 2**count if exact else permutations
    rng = np.random.default_rng(seed_from("sign flips", seed, count))
    extreme = np.zeros(sums.shape[1])
    for start in range(0, total, FLIPS_AT_ONCE):
        rows = min(FLIPS_AT_ONCE, total - start)
        if exact:
            patterns = np.arange(start, start + rows)[:, None] >> np.arange(count) & 1
        else:
            patterns = rng.integers(0, 2, (rows, count))
        extreme += (np.abs((2 * patterns - 1) @ sums) >= observed).sum(0)
    p = extreme / total if exact else (extreme + 1) / (total + 1)
    return p.reshape(values.shape[1:])[()]


def permutations_for(tests):
    """How many permutations a family of so many tests needs."""
    return max(PERMUTATIONS, PER_TEST * tests)


def holm(p):
    """p (K,) of a family of K tests, adjusted by Holm (1979).

    Sorted upwards, the k-th is multiplied by K - k + 1, is at least the one before it, and at
    most 1. Rejecting those below 0.05 keeps the chance of any false rejection below 0.05, however
    the tests depend on each other.
    """
    p = np.asarray(p, float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted
