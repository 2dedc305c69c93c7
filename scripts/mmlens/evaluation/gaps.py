"""The gap between the best and the worst of several groups, with an interval that may hold 0.

The greatest of many differences is never below 0, and neither are its resamples; so its own
percentiles could not tell a gap from noise. Here the interval is simultaneous over all pairs of
groups, whichever of them turn out to be the best and the worst.
"""

from itertools import combinations

import numpy as np

from .paired import LEVEL

KEYS = ("gap", "gap_low", "gap_high", "p", "best", "worst")


def gap(values, replicates, names, level=0.95):
    """The gap of one metric, in [0, 1], between groups.

    The interval is that of the studentised maximum over all pairs (single-step max-t by bootstrap,
    Westfall & Young 1993; Hothorn et al. 2008): difference -+ q standard errors, where the largest
    of all |resampled difference - difference| / standard error is below q in `level` of the
    resamples; cut to [-1, 1]. p is the share of resamples in which that largest one reaches that of
    the gap. Both are approximate: docs/evaluation.md has how often they err in small groups.

    Parameters
    ----------
    values : (G,) the metric of every group, NaN where it is not defined
    replicates : (R, G) of the bootstrap, all groups resampled together
    names : (G,) of the groups

    Returns
    -------
    dict of KEYS; all NaN or "" with fewer than two groups whose metric is defined. An interval of
    no width belongs to two groups in which the metric has no variance.
    """
    values, replicates = np.asarray(values, float), np.asarray(replicates, float)
    known = np.flatnonzero(~np.isnan(values))
    if len(known) < 2:
        return dict.fromkeys(KEYS[:4], np.nan) | {"best": "", "worst": ""}
    best, worst = known[np.argmax(values[known])], known[np.argmin(values[known])]
    found = {"gap": values[best] - values[worst], "best": names[best], "worst": names[worst]}
    whole = replicates[~np.isnan(replicates[:, known]).any(1)]
    if not len(whole):  # of one cluster there are no resamples
        return found | dict.fromkeys(KEYS[1:4], np.nan)
    pairs = np.array(list(combinations(known, 2)))
    differences = values[pairs[:, 0]] - values[pairs[:, 1]]
    apart = whole[:, pairs[:, 0]] - whole[:, pairs[:, 1]] - differences
    error = np.sqrt((apart**2).mean(0))
    varies = error > 1e-12
    largest = (np.abs(apart[:, varies]) / error[varies]).max(1, initial=0)
    own = error[[set(pair) == {best, worst} for pair in pairs.tolist()]]
    # Where all groups are equal the best and the worst are one; any pair stands for them.
    own = own[0] if len(own) else error.max()
    half = np.quantile(largest, level) * own
    if own > 1e-12:
        reached = largest >= found["gap"] / own - 1e-9
    else:  # without any variance a gap is certain, and so is that there is none
        reached = np.full(len(largest), found["gap"] < 1e-12)
    bounds = {"gap_low": max(found["gap"] - half, -1.0), "gap_high": min(found["gap"] + half, 1.0)}
    return found | bounds | {"p": (reached.sum() + 1) / (len(largest) + 1)}


def real_gaps(table):
    """Which rows of the table fairness_gaps are gaps by both tests, as bool Series.

    The interval lies above 0, and fewer than 5% of deals of the groups give one as wide.
    """
    return (table["gap_low"] > 0) & (table["p_shuffled"] < LEVEL)
