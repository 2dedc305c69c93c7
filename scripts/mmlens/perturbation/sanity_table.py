"""Means of the sanity checks' records, with intervals over clusters."""

import numpy as np
import pandas as pd

from ..evaluation.statistics import bootstrap_weights, interval, mean_interval
from ..metrics import auroc

KEYS = ["check", "method", "step", "block", "modality", "measure", "note"]
VALUES = ["value", "low", "high", "n", "degenerate"]
SHARES = ("accuracy", "additive_accuracy")  # measures
WHOLE = ""  # what takes all samples at once has no record per sample


def tabulate_sanity(records, samples, *, resamples, seed):
    """Table of all checks of every model and seed.

    Parameters
    ----------
    records : DataFrame of `sanity.check_maps` and modality.py with columns model and seed
    samples : DataFrame, the samples table

    Returns
    -------
    DataFrame: model, seed, KEYS, value (mean over samples) with its cluster-bootstrap 95%
    interval low and high, n, degenerate (samples where the value is not defined, as a map is
    constant; they are not among the n). The check emap also has the AUROC of both logits, and the
    gaps: that of the model minus that of its additive projection. A check that cannot be made has
    one row without value, whose note says why.
    """
    rows = []
    for keys, runs in records.groupby(["model", "seed"], sort=False):
        own = [mean_values(runs, samples, resamples, seed)]
        own.append(additive_gaps(runs[runs["check"] == "emap"], samples, resamples, seed))
        rows.append(pd.concat(own).assign(model=keys[0], seed=keys[1]))
    columns = ["model", "seed", *KEYS, *VALUES]
    table = pd.concat(rows)[columns] if rows else pd.DataFrame(columns=columns)
    # What is empty has no types to keep.
    return table.astype({**dict.fromkeys(VALUES[:3], float), **dict.fromkeys(VALUES[3:], int)})


def mean_values(records, samples, resamples, seed):
    """One row per KEYS with the mean of its samples; of several training seeds, over all."""
    clusters = samples.set_index("sample_id")["cluster_id"]
    rows = []
    for keys, part in records.groupby(KEYS, sort=False):
        known = part[part["value"].notna()]
        bounds = [np.nan] * 3
        if len(known):
            of_sample = known["sample_id"].map(clusters)
            share = part["measure"].iat[0] in SHARES
            bounds = mean_interval(known["value"], of_sample, resamples, seed, share)
        missing = 0 if (part["sample_id"] == WHOLE).all() else len(part) - len(known)
        rows.append((*keys, *bounds, len(known), missing))
    return pd.DataFrame(rows, columns=[*KEYS, *VALUES])


def additive_gaps(records, samples, resamples, seed):
    """Rows of what needs several records of a sample: AUROC, and gaps to the projection.

    The resamples keep the projection of the N samples as it is.
    """
    facts = samples.set_index("sample_id")
    wide = records.pivot(index="sample_id", columns="measure", values="value")
    found = {}
    if "accuracy" in wide:
        weights = bootstrap_weights(wide.index.map(facts["cluster_id"]), resamples, seed)
        gap = wide["accuracy"] - wide["additive_accuracy"]
        found["accuracy_gap"] = (gap.mean(), weights @ gap / weights.sum(1))
    if "logit" in wide:
        label = wide.index.map(facts["label"]).to_numpy()
        areas = {}
        for name in ("logit", "additive_logit"):
            scores = wide[name].to_numpy()
            areas[name] = (auroc(label, scores), auroc(label, scores, weights))
        found["auroc"], found["additive_auroc"] = areas["logit"], areas["additive_logit"]
        found["auroc_gap"] = tuple(
            a - b for a, b in zip(areas["logit"], areas["additive_logit"], strict=True)
        )
    blank = dict.fromkeys(KEYS, "") | {"check": "emap"}
    rows = []
    for measure, (value, replicates) in found.items():
        low, high = interval(replicates)
        facts_of = {**blank, "measure": measure, "value": value, "low": low, "high": high}
        rows.append({**facts_of, "n": len(wide), "degenerate": 0})
    return pd.DataFrame(rows, columns=[*KEYS, *VALUES])
