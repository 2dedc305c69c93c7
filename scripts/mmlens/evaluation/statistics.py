"""Cluster bootstrap: intervals that respect that samples of one quad or image hang together."""

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
    rng = np.random.default_rng(seed_from("bootstrap", seed, len(names)))
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return counts[:, member].astype(float)


def interval(replicates):
    """Percentile 95% interval (low, high) of bootstrap replicates; NaN replicates are ignored."""
    replicates = np.asarray(replicates, float)
    if np.isnan(replicates).all():
        return float("nan"), float("nan")
    low, high = np.nanpercentile(replicates, [2.5, 97.5])
    return float(low), float(high)


def centred_interval(value, replicates):
    """`interval` of replicates moved by their bias, so that their mean is `value`; within [0, 1].

    Of a metric that resampling itself lifts, since a resample holds some samples twice: calibration
    error, and average precision of few positives.
    """
    replicates = np.asarray(replicates, float)
    known = replicates[~np.isnan(replicates)]
    bias = known.mean() - value if len(known) else np.nan
    return tuple(float(np.clip(bound - bias, 0, 1)) for bound in interval(replicates))


def mean_interval(values, clusters, resamples, seed):
    """Mean of per-sample values with its cluster-bootstrap interval: (mean, low, high).

    values : (N,) or (N, M); with M columns all results are (M,) and share their resamples.
    low and high are NaN for fewer than two clusters.
    """
    values = np.asarray(values, float)
    weights = bootstrap_weights(clusters, resamples, seed)
    means = weights @ values / weights.sum(1).reshape(-1, *[1] * (values.ndim - 1))
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return values.mean(0), low, high


def hierarchical_weights(clusters, seeds, resamples, seed):
    """Weights (R, S, N): resample training seeds, and clusters, which all seeds share.

    For results of S training seeds on the same N samples.
    """
    rng = np.random.default_rng(seed_from("seeds", seed, seeds))
    drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    return drawn[:, :, None] * bootstrap_weights(clusters, resamples, seed)[:, None, :]
