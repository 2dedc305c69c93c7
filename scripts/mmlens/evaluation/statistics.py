"""Intervals that respect that samples of one quad or image hang together."""

from functools import lru_cache

import numpy as np
from scipy.special import betaincinv, stdtrit

from ..files import seed_from

# Metrics that are shares: of all samples (None), or of those of a label.
SHARES = {
    "accuracy": None,
    "selection_rate": None,
    "recall": 1,
    "true_positive_rate": 1,
    "false_positive_rate": 0,
}


def bootstrap_weights(clusters, resamples, seed):
    """How often each sample occurs in each resample of whole clusters.

    Parameters
    ----------
    clusters : (N,) cluster of every sample
    resamples : int, R
    seed : int; the draw depends on it and on the number of clusters only

    Returns
    -------
    (R, N) float array; NaN of one cluster, every resample of which is itself
    """
    names, member = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    if len(names) == 1:
        return np.full((resamples, len(member)), np.nan)
    return resampled(len(names), resamples, seed)[:, member]


@lru_cache(maxsize=2)
def resampled(count, resamples, seed):
    """How often each of `count` clusters occurs in each resample, float (R, count); read only.

    Kept, since tables of many rows ask for the same draw once per row.
    """
    rng = np.random.default_rng(seed_from("bootstrap", seed, count))
    counts = rng.multinomial(count, np.full(count, 1 / count), size=resamples).astype(float)
    counts.flags.writeable = False
    return counts


def interval(replicates):
    """Percentile 95% interval (low, high) of bootstrap replicates; NaN replicates are ignored."""
    replicates = np.asarray(replicates, float)
    if np.isnan(replicates).all():
        return float("nan"), float("nan")
    low, high = np.nanpercentile(replicates, [2.5, 97.5])
    return float(low), float(high)


def centred_interval(value, replicates, least=0):
    """`interval` of replicates moved by their bias, so that their mean is `value`.

    It is cut to [least, 1]: a metric is not below 0, a difference of two not below -1.

    Of a metric that resampling itself lifts, since a resample holds some samples twice: calibration
    error, and average precision of few positives; and of the difference of two such values.
    """
    replicates = np.asarray(replicates, float)
    known = replicates[~np.isnan(replicates)]
    bias = known.mean() - value if len(known) else np.nan
    return tuple(float(np.clip(bound - bias, least, 1)) for bound in interval(replicates))


def cluster_variance(values, clusters):
    """Variance of the mean of values (n,) or (n, M) when whole clusters are drawn again.

    What the cluster bootstrap's variance tends to with many resamples and clusters, in one step.
    """
    values = np.asarray(values, float)
    residuals = values - values.mean(0)
    names, member = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    sums = np.zeros((len(names), *residuals.shape[1:]))
    np.add.at(sums, member, residuals)
    return (sums**2).sum(0) / len(residuals) ** 2


def share_interval(share, clusters, variance):
    """95% interval (low, high) of a share of samples, or of a mean of values in [0, 1].

    The bounds of Clopper & Pearson (1934) for as many trials as independent samples would need for
    that variance, share (1 - share) / variance, times a factor for few clusters (Korn & Graubard
    1998), which is 1 where every cluster holds one sample. Percentiles of the bootstrap agree where
    there are many hits and misses, and are too short where there are few.

    At 0 and 1 there is no variance, and nothing tells how alike the samples of a cluster are: the
    trials are then the clusters, and the bounds [0, 1 - .025^(1/n)] or [.025^(1/n), 1]. Where all
    clusters have one other share, the bounds are that share. NaN for fewer than two clusters, and
    for an unknown share.

    share : float or (M,); clusters : (n,) of the samples that it is the share of
    variance : float or (M,), by `cluster_variance` or of bootstrap replicates
    """
    share = np.asarray(share, float)
    count = len(np.unique(np.asarray(clusters, dtype=str)))
    if count < 2:
        unknown = np.full(share.shape, np.nan)[()]
        return unknown, unknown
    # Means of ones may differ from 1 by rounding.
    share = np.where(np.isclose(share, share.round(), rtol=0, atol=1e-12), share.round(), share)
    # The quantile, and the variance of means, which is (n - 1) / n of the unbiased one.
    few = (stdtrit(len(clusters) - 1, 0.975) / stdtrit(count - 1, 0.975)) ** 2
    few *= (1 - 1 / count) / (1 - 1 / len(clusters))
    with np.errstate(divide="ignore", invalid="ignore"):
        trials = share * (1 - share) / variance * few
    trials = np.where((share == 0) | (share == 1), count, trials)
    hits, misses = share * trials, (1 - share) * trials
    low = np.where(share == 0, 0, betaincinv(hits, misses + 1, 0.025))
    high = np.where(share == 1, 1, betaincinv(hits + 1, misses, 0.975))
    alike = (variance < 1e-20) & (share > 0) & (share < 1)
    # [()] makes of an array without dimensions the number that it holds.
    return tuple(np.where(alike, share, bound)[()] for bound in (low, high))


def mean_share(values, clusters):
    """Mean of per-sample values in [0, 1] with its `share_interval`: (mean, low, high).

    values : (N,) or (N, M); with M columns all results are (M,)
    """
    mean = np.asarray(values, float).mean(0)
    return mean, *share_interval(mean, clusters, cluster_variance(values, clusters))


def metric_interval(metric, value, replicates, rows):
    """95% interval (low, high) of a metric of the samples `rows`, from its bootstrap replicates.

    Of SHARES by `share_interval`, of the calibration error by `centred_interval`, else `interval`.
    Precision is no share of fixed samples, and 0 by convention where nothing is predicted 1.

    rows : DataFrame with cluster_id, and label for the shares of the samples of one label
    """
    if metric == "ece":
        return centred_interval(value, replicates)
    if metric not in SHARES or np.isnan(replicates).all():
        return interval(replicates)
    label = SHARES[metric]
    of_whom = rows if label is None else rows[rows["label"] == label]
    return share_interval(value, of_whom["cluster_id"], np.nanvar(replicates))


def mean_interval(values, clusters, resamples, seed, share=False):
    """Mean of per-sample values with its cluster-bootstrap interval: (mean, low, high).

    low and high are NaN for fewer than two clusters.

    values : (N,) or (N, M); with M columns all results are (M,) and share their resamples
    share : whether values lie in [0, 1] and are told by `mean_share`, which needs no resamples
    """
    if share:
        return mean_share(values, clusters)
    values = np.asarray(values, float)
    weights = bootstrap_weights(clusters, resamples, seed)
    means = weights @ values / weights.sum(1).reshape(-1, *[1] * (values.ndim - 1))
    return values.mean(0), *np.percentile(means, [2.5, 97.5], axis=0)


def hierarchical_weights(clusters, seeds, resamples, seed):
    """Weights (R, S, N): resample training seeds, and clusters, which all seeds share.

    For results of S training seeds on the same N samples.
    """
    rng = np.random.default_rng(seed_from("seeds", seed, seeds))
    drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    return drawn[:, :, None] * bootstrap_weights(clusters, resamples, seed)[:, None, :]
