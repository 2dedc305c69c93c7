"""Cluster bootstrap: intervals that respect that samples of one quad or image hang together."""

from functools import lru_cache

import numpy as np

from ..files import seed_from


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


def share_interval(share, clusters, replicates):
    """`interval` of a share, or of a mean of values in [0, 1], with `exact_bounds`.

    clusters : (n,) of the samples that it is the share of; replicates : (R,) of the bootstrap
    """
    return tuple(float(bound) for bound in exact_bounds(share, *interval(replicates), clusters))


def exact_bounds(share, low, high, clusters):
    """Bounds (low, high) of the bootstrap, exact where the share is 0 or 1.

    There all samples agree, and so do all resamples, however few clusters there are. The interval
    is the two-sided 95% one of Clopper & Pearson (1934) of as many trials as clusters,
    [0, 1 - .025^(1/n)] or [.025^(1/n), 1]; of values between 0 and 1 it is conservative. NaN for
    fewer than two clusters.

    share, low, high : floats or (M,), of shares or of means of values in [0, 1]
    clusters : (n,) as in `share_interval`
    """
    count = len(np.unique(np.asarray(clusters, dtype=str)))
    if count < 2:
        unknown = np.multiply(share, np.nan)
        return unknown, unknown
    edge = 0.025 ** (1 / count)
    # [()] makes of an array without dimensions the number that it holds.
    low = np.where(np.equal(share, 1), edge, low)[()]
    high = np.where(np.equal(share, 0), 1 - edge, high)[()]
    return low, high


def mean_interval(values, clusters, resamples, seed, share=False):
    """Mean of per-sample values with its cluster-bootstrap interval: (mean, low, high).

    values : (N,) or (N, M); with M columns all results are (M,) and share their resamples.
    share : of values in [0, 1], whose interval has the `exact_bounds` of a share.
    low and high are NaN for fewer than two clusters.
    """
    values = np.asarray(values, float)
    weights = bootstrap_weights(clusters, resamples, seed)
    means = weights @ values / weights.sum(1).reshape(-1, *[1] * (values.ndim - 1))
    mean = values.mean(0)
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return mean, *(exact_bounds(mean, low, high, clusters) if share else (low, high))


def hierarchical_weights(clusters, seeds, resamples, seed):
    """Weights (R, S, N): resample training seeds, and clusters, which all seeds share.

    For results of S training seeds on the same N samples.
    """
    rng = np.random.default_rng(seed_from("seeds", seed, seeds))
    drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    return drawn[:, :, None] * bootstrap_weights(clusters, resamples, seed)[:, None, :]
