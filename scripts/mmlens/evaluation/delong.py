"""Areas under ROC curves and their covariance without resampling, for paired and clustered data."""

import sys
from statistics import NormalDist

import numpy as np
from scipy.stats import rankdata

from .paired import cluster_sums

NORMAL = NormalDist()


def auroc_covariance(y_true, scores, clusters=None):
    """AUROC of K scores of the same samples, and the covariance of these areas.

    DeLong et al. (1988), by the ranks of Sun & Xu (2014). Where samples hang together the sums of
    Obuchowski (1997, eqs. 3 to 5) over whole clusters take the place of single samples; with one
    sample per cluster both are equal.

    Parameters
    ----------
    y_true : (N,) of 0 and 1
    scores : (K, N) floats
    clusters : (N,) cluster of every sample; None for samples that do not hang together

    Returns
    -------
    areas (K,), covariance (K, K); NaN without samples of both labels, the covariance also with
    fewer than two clusters that hold a label.
    """
    scores = np.atleast_2d(np.asarray(scores, float))
    positive = np.asarray(y_true) == 1
    clusters = np.arange(len(positive)) if clusters is None else clusters
    m, n = positive.sum(), (~positive).sum()
    areas = np.full(len(scores), np.nan)
    if not m or not n:
        return areas, np.full((len(scores),) * 2, np.nan)
    # Of a positive the share of negatives below it, of a negative that of positives above it.
    ranks = rankdata(scores, axis=1)
    shares = np.empty_like(scores)
    own = rankdata(scores[:, positive], axis=1)
    shares[:, positive] = (ranks[:, positive] - own) / n
    own = rankdata(scores[:, ~positive], axis=1)
    shares[:, ~positive] = 1 - (ranks[:, ~positive] - own) / m
    areas = shares[:, positive].mean(1)
    apart = (shares - areas[:, None]).T
    of_positives, _ = cluster_sums(apart * positive[:, None], clusters)
    of_negatives, _ = cluster_sums(apart * ~positive[:, None], clusters)
    total = len(of_positives)
    with_positives = len(set(np.asarray(clusters)[positive]))
    with_negatives = len(set(np.asarray(clusters)[~positive]))
    if min(with_positives, with_negatives) < 2:
        return areas, np.full((len(scores),) * 2, np.nan)
    across = of_positives.T @ of_negatives * (total / (total - 1) / (m * n))
    covariance = (
        of_positives.T @ of_positives * (with_positives / (with_positives - 1) / m**2)
        + of_negatives.T @ of_negatives * (with_negatives / (with_negatives - 1) / n**2)
        + across
        + across.T
    )
    return areas, covariance


def normal_interval(value, variance, level=0.95):
    """(low, high) of a normally distributed estimate; NaN where the variance is."""
    half = NORMAL.inv_cdf((1 + level) / 2) * np.sqrt(np.maximum(variance, 0))
    return value - half, value + half


def delong_interval(y_true, score, clusters=None):
    """(AUROC, low, high), with the 95% interval of `auroc_covariance`, cut to [0, 1]."""
    areas, covariance = auroc_covariance(y_true, score, clusters)
    low, high = normal_interval(areas[0], covariance[0, 0])
    return areas[0], *np.clip((low, high), 0, 1)


def delong_p(areas, covariance, a, b):
    """(difference, low, high, p) of areas `a` and `b` of `auroc_covariance`; p is two-sided.

    p is 1 where both areas are the same without any variance, and 0 where they differ without any;
    one below the smallest float is given as that.
    """
    difference = areas[a] - areas[b]
    variance = covariance[a, a] + covariance[b, b] - 2 * covariance[a, b]
    low, high = normal_interval(difference, variance)
    if np.isnan(variance):
        return difference, low, high, np.nan
    if variance <= 1e-15:  # none but for rounding
        difference = 0.0 if abs(difference) < 1e-9 else difference
        return difference, difference, difference, float(difference == 0)
    p = 2 * NORMAL.cdf(-abs(difference) / np.sqrt(variance))
    return difference, low, high, max(p, sys.float_info.min)
