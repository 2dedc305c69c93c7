"""Metrics per group and the gaps between groups: who is served worse, and is it more than noise?"""

import numpy as np
import pandas as pd

from ..files import seed_from
from ..metrics import auroc, confusion, divide
from ..table import group_columns
from .classification import with_samples
from .delong import delong_interval
from .gaps import KEYS, gap
from .statistics import bootstrap_weights, interval

COLUMNS = ("column", "group", "metric", "value", "low", "high", "n", "positives", "note")
GAPS = ("column", "control", "metric", *KEYS, "groups", "n")
# Metric of every group, and the name that the field has for its gap between groups.
RATES = {
    "accuracy": "accuracy_gap",
    "auroc": "auroc_gap",
    "true_positive_rate": "equal_opportunity_difference",
    "false_positive_rate": "false_positive_rate_gap",
    "selection_rate": "demographic_parity_difference",
}
SHUFFLED = "shuffled_groups"
SHUFFLES = 100


def assess_groups(predictions, samples, right=None, *, min_size, resamples, seed, split="test"):
    """Fairness of one model and seed, for every group_* column.

    Parameters
    ----------
    predictions : DataFrame of one predictions file
    samples : DataFrame, the samples table
    right : Series, accuracy of every sample by its sample_id, of answers and classes; None for two
        labels
    min_size : samples that a group needs; smaller ones are listed without numbers
    resamples, seed : of the cluster bootstrap

    Returns
    -------
    groups : DataFrame of COLUMNS, a row per group and metric. Of two labels: accuracy, auroc,
        true_positive_rate, false_positive_rate, selection_rate (share predicted 1), and the areas
        of unintended bias (Borkan et al. 2019): bpsn_auc (negatives of the group against positives
        of all others) and bnsp_auc (its positives against their negatives), with intervals by
        DeLong over clusters. Of answers and classes: accuracy.
    gaps : DataFrame of GAPS, a row per column and metric: best minus worst group with the
        simultaneous interval of `gaps.gap`. control "shuffled_groups" is what chance gives, groups
        of the same sizes dealt anew to the samples: mean gap of SHUFFLES deals, the middle 95% of
        them, and the share p of deals (with the true one) whose gap is as wide as the true one.
    """
    chosen = with_samples(predictions, samples, split)
    chosen["right"] = (
        (chosen["prediction"] == chosen["label"]).astype(float)
        if right is None
        else chosen["sample_id"].map(right)
    )
    weights = bootstrap_weights(chosen["cluster_id"], resamples, seed)
    rows, gaps = [], []
    for column in group_columns(chosen):
        value_of = chosen[column].to_numpy()
        sizes = chosen[column].value_counts().sort_index()
        large = sizes.index[sizes >= min_size].tolist()
        values, replicates = group_metrics(chosen, value_of, large, weights, right is None)
        named = {"column": column.removeprefix("group_")}
        for k, group in enumerate(large):
            own = chosen[value_of == group]
            facts = {**named, "group": group, "n": len(own), "note": ""}
            facts["positives"] = int((own["label"] == 1).sum()) if right is None else ""
            found = {name: (values[name][k], *interval(replicates[name][:, k])) for name in values}
            found |= bias_areas(chosen, value_of == group) if right is None else {}
            rows += [
                {**facts, "metric": metric, "value": value, "low": low, "high": high}
                for metric, (value, low, high) in found.items()
            ]
        rows += [
            {**named, "group": group, "n": size, "note": f"fewer than {min_size} samples"}
            for group, size in sizes[sizes < min_size].items()
        ]
        if len(large) < 2:
            continue
        named |= {"groups": len(large), "n": int(sizes[large].sum())}
        by_chance = shuffled_gaps(chosen, value_of, large, right is None, seed, column)
        for metric in values:
            row = {**named, "metric": RATES[metric]}
            found = gap(values[metric], replicates[metric], large)
            gaps.append({**row, "control": "", **found})
            chance = control_row(found["gap"], by_chance[metric])
            gaps.append({**row, "control": SHUFFLED, **chance})
    return pd.DataFrame(rows, columns=list(COLUMNS)), pd.DataFrame(gaps, columns=list(GAPS))


def group_metrics(chosen, value_of, groups, weights, two_labels):
    """{metric: (G,)} and {metric: (R, G)} of the bootstrap, for the groups.

    chosen : DataFrame of N samples; value_of : (N,) group of each; weights : (R, N)
    """
    masks = [value_of == group for group in groups]
    values = [metrics_of(chosen[mask], None, two_labels) for mask in masks]
    drawn = [metrics_of(chosen[mask], weights[:, mask], two_labels) for mask in masks]
    names = values[0] if values else ()
    return (
        {name: np.array([found[name] for found in values]) for name in names},
        {name: np.stack([found[name] for found in drawn], 1) for name in names},
    )


def metrics_of(own, weights, two_labels):
    """{metric: float, or (R,) for weights (R, n)} of the samples of one group."""
    weights = np.ones((1, len(own))) if weights is None else weights
    found = {"accuracy": divide(weights @ own["right"].to_numpy(), weights.sum(1))}
    if two_labels:
        label, prediction = own["label"].to_numpy(), own["prediction"].to_numpy()
        counts = confusion(label, prediction, weights)
        tp, fp, fn, tn = (counts[name] for name in ("tp", "fp", "fn", "tn"))
        found |= {
            "auroc": auroc(label, own["logit"].to_numpy(), weights),
            "true_positive_rate": divide(tp, tp + fn),
            "false_positive_rate": divide(fp, fp + tn),
            "selection_rate": divide(tp + fp, tp + fp + fn + tn),
        }
    return {name: value[0] if len(weights) == 1 else value for name, value in found.items()}


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


def shuffled_gaps(chosen, value_of, groups, two_labels, seed, name):
    """{metric: (SHUFFLES,) gaps} between groups that are dealt anew to the samples."""
    rng = np.random.default_rng(seed_from("fairness", seed, name))
    clusters = chosen["cluster_id"].to_numpy()
    found = []
    for _ in range(SHUFFLES):
        dealt = shuffled(value_of, clusters, rng)
        own = [metrics_of(chosen[dealt == group], None, two_labels) for group in groups]
        found.append({name: np.ptp([one[name] for one in own]) for name in own[0]})
    return {name: np.array([one[name] for one in found]) for name in found[0]}


def control_row(found, by_chance):
    """KEYS of a gap that chance gave, beside the one that was found."""
    low, high = interval(by_chance)
    p = ((by_chance >= found - 1e-12).sum() + 1) / (len(by_chance) + 1)
    bounds = {"gap": np.nanmean(by_chance), "gap_low": low, "gap_high": high}
    return bounds | {"p": p, "best": "", "worst": ""}


def shuffled(values, clusters, rng):
    """`values` (N,) dealt anew: whole clusters exchange theirs where all have the same size.

    So groups lie in clusters as before; else single samples exchange theirs.
    """
    order = np.argsort(clusters, kind="stable")
    sizes = np.unique(clusters, return_counts=True)[1]
    if len(set(sizes)) > 1:
        return rng.permutation(values)
    dealt = np.empty_like(values)
    blocks = values[order].reshape(len(sizes), -1)
    dealt[order] = rng.permutation(blocks).ravel()
    return dealt
