"""Metrics per group and the gaps between groups: who is served worse, and is it more than noise?"""

import numpy as np
import pandas as pd

from ..files import seed_from
from ..metrics import auroc, confusion, divide
from ..table import group_columns
from .classification import with_samples
from .delong import delong_interval
from .gaps import KEYS, gap
from .statistics import bootstrap_weights, interval, metric_interval

COLUMNS = ("column", "group", "metric", "value", "low", "high", "n", "positives", "note")
CHANCE = ("shuffled", "shuffled_low", "shuffled_high", "p_shuffled")
GAPS = ("column", "metric", *KEYS, *CHANCE, "groups", "n")
# Metric of every group, and the name that the field has for its gap between groups.
RATES = {
    "accuracy": "accuracy_gap",
    "auroc": "auroc_gap",
    "true_positive_rate": "equal_opportunity_difference",
    "false_positive_rate": "false_positive_rate_gap",
    "selection_rate": "demographic_parity_difference",
}
NO_GROUP = ("", "unlabelled")  # cells of samples that belong to none
SHUFFLES = 100


def assess_groups(predictions, samples, right=None, *, min_size, resamples, seed, split="test"):
    """Fairness of one model and seed, for every group_* column.

    Parameters
    ----------
    predictions : DataFrame of one predictions file
    samples : DataFrame, the samples table
    right : Series, accuracy of every sample by its sample_id, of answers and classes; None for two
        labels
    min_size : samples that a group needs; smaller ones are listed without numbers. A metric that
        is about one label needs so many of it, AUROC so many of both
    resamples, seed : of the cluster bootstrap

    Returns
    -------
    groups : DataFrame of COLUMNS, a row per group and metric. Of two labels: accuracy, auroc,
        true_positive_rate, false_positive_rate, selection_rate (share predicted 1), and the areas
        of unintended bias (Borkan et al. 2019): bpsn_auc (negatives of the group against positives
        of all others) and bnsp_auc (its positives against their negatives), with intervals by
        DeLong over clusters. Of answers and classes: accuracy.
    gaps : DataFrame of GAPS, a row per column and metric: best minus worst group with the
        simultaneous interval of `gaps.gap`. The columns of CHANCE are the control, groups of the
        same sizes dealt anew to the samples: mean gap of SHUFFLES deals, the middle 95% of them,
        and the share of deals (with the true one) whose gap is as wide as the true one. Samples of
        NO_GROUP, and groups of two labels that hold one of them only, take no part.
    """
    chosen = with_samples(predictions, samples, split)
    two_labels = right is None
    chosen["right"] = (
        (chosen["prediction"] == chosen["label"]).astype(float)
        if two_labels
        else chosen["sample_id"].map(right)
    )
    weights = bootstrap_weights(chosen["cluster_id"], resamples, seed)
    rows, gaps = [], []
    for column in group_columns(chosen):
        value_of = chosen[column].to_numpy()
        sizes = chosen[column].value_counts().sort_index()
        large = sizes.index[sizes >= min_size].tolist()
        values, replicates = group_metrics(chosen, value_of, large, weights, min_size, two_labels)
        named = {"column": column.removeprefix("group_")}
        compared = []
        for k, group in enumerate(large):
            own = chosen[value_of == group]
            facts = {**named, "group": group, "n": len(own), "note": ""}
            facts["positives"] = int((own["label"] == 1).sum()) if two_labels else ""
            if group in NO_GROUP:
                facts["note"] = "of no group, not compared"
            elif two_labels and own["label"].nunique() < 2:
                facts["note"] = f"only label {own['label'].iat[0]}, not compared"
            else:
                compared.append(k)
            found = {
                name: (values[name][k], *metric_interval(name, values[name][k], drawn[:, k], own))
                for name, drawn in replicates.items()
            }
            found |= bias_areas(chosen, value_of == group) if two_labels else {}
            rows += [
                {**facts, "metric": metric, "value": value, "low": low, "high": high}
                for metric, (value, low, high) in found.items()
            ]
        rows += [
            {**named, "group": group, "n": size, "note": f"fewer than {min_size} samples"}
            for group, size in sizes[sizes < min_size].items()
        ]
        names = [large[k] for k in compared]
        if len(names) < 2:
            continue
        part = chosen[np.isin(value_of, names)]
        by_chance = shuffled_gaps(part, part[column].to_numpy(), names, min_size, two_labels, seed)
        for metric in values:
            found = gap(values[metric][compared], replicates[metric][:, compared], names)
            row = {**named, "metric": RATES[metric], "groups": len(names), "n": len(part)}
            gaps.append({**row, **found, **chance_of(found["gap"], by_chance[metric])})
    return pd.DataFrame(rows, columns=list(COLUMNS)), pd.DataFrame(gaps, columns=list(GAPS))


def group_metrics(chosen, value_of, groups, weights, min_size, two_labels):
    """{metric: (G,)} and {metric: (R, G)} of the bootstrap, for the groups.

    chosen : DataFrame of N samples; value_of : (N,) group of each; weights : (R, N)
    """
    masks = [value_of == group for group in groups]
    values = [metrics_of(chosen[mask], None, min_size, two_labels) for mask in masks]
    drawn = [metrics_of(chosen[mask], weights[:, mask], min_size, two_labels) for mask in masks]
    names = values[0] if values else ()
    return (
        {name: np.array([found[name] for found in values]) for name in names},
        {name: np.stack([found[name] for found in drawn], 1) for name in names},
    )


def metrics_of(own, weights, min_size, two_labels):
    """{metric: float, or (R,) for weights (R, n)} of one group; NaN with too few of a label."""
    single = weights is None
    weights = np.ones((1, len(own))) if single else weights
    found = {"accuracy": divide(weights @ own["right"].to_numpy(), weights.sum(1))}
    if two_labels:
        label, prediction = own["label"].to_numpy(), own["prediction"].to_numpy()
        counts = confusion(label, prediction, weights)
        tp, fp, fn, tn = (counts[name] for name in ("tp", "fp", "fn", "tn"))
        positives = (label == 1).sum()
        few = (positives < min_size, len(label) - positives < min_size)
        undefined = np.full(len(weights), np.nan)
        area = undefined if any(few) else auroc(label, own["logit"].to_numpy(), weights)
        found |= {
            "auroc": area,
            "true_positive_rate": undefined if few[0] else divide(tp, tp + fn),
            "false_positive_rate": undefined if few[1] else divide(fp, fp + tn),
            "selection_rate": divide(tp + fp, tp + fp + fn + tn),
        }
    found = {name: np.atleast_1d(value) for name, value in found.items()}
    return {name: value[0] if single else value for name, value in found.items()}


def bias_areas(chosen, inside):
    """{bpsn_auc, bnsp_auc: (value, low, high)} of a group, bool (N,)."""
    positive = (chosen["label"] == 1).to_numpy()
    mixed = {"bpsn_auc": inside != positive, "bnsp_auc": inside == positive}
    return {
        name: delong_interval(
            *(chosen.loc[mask, key].to_numpy() for key in ("label", "logit", "cluster_id"))
        )
        for name, mask in mixed.items()
    }


def shuffled_gaps(chosen, value_of, groups, min_size, two_labels, seed):
    """{metric: (SHUFFLES,) gaps} between groups that are dealt anew to the samples."""
    rng = np.random.default_rng(seed_from("fairness", seed, *groups))
    clusters = chosen["cluster_id"].to_numpy()
    found = []
    for _ in range(SHUFFLES):
        dealt = shuffled(value_of, clusters, rng)
        masks = [dealt == group for group in groups]
        own = [metrics_of(chosen[mask], None, min_size, two_labels) for mask in masks]
        values = {name: np.array([one[name] for one in own]) for name in own[0]}
        found.append({name: spread(of_groups) for name, of_groups in values.items()})
    return {name: np.array([one[name] for one in found]) for name in found[0]}


def spread(values):
    """Greatest minus least of the defined values; NaN with fewer than two."""
    known = values[~np.isnan(values)]
    return np.ptp(known) if len(known) > 1 else np.nan


def chance_of(found, by_chance):
    """The columns of CHANCE for a gap, which may be NaN."""
    known = by_chance[~np.isnan(by_chance)]
    if np.isnan(found) or not len(known):
        return dict.fromkeys(CHANCE, np.nan)
    p = ((known >= found - 1e-12).sum() + 1) / (len(known) + 1)
    return dict(zip(CHANCE, (known.mean(), *interval(known), p), strict=True))


def shuffled(values, clusters, rng):
    """`values` (N,) dealt anew, so that they lie in clusters as before.

    Where all samples of every cluster have one value, whole clusters exchange theirs; else clusters
    of equal size exchange the values of their samples, in order.
    """
    _, member = np.unique(clusters, return_inverse=True)
    order = np.argsort(member, kind="stable")
    sizes = np.bincount(member)
    ends = np.cumsum(sizes)
    first = values[order][ends - sizes]
    if (values == first[member]).all():
        return rng.permutation(first)[member]
    dealt = values.copy()
    for size in np.unique(sizes):
        alike = np.flatnonzero(sizes == size)
        rows = order[(ends[alike] - size)[:, None] + np.arange(size)]
        dealt[rows] = values[rows[rng.permutation(len(alike))]]
    return dealt
