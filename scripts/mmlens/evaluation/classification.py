"""Metrics of binary classification per subset, with intervals over clusters."""

import numpy as np
import pandas as pd

from ..metrics import (
    auroc,
    average_precision,
    brier,
    calibration_error,
    confusion,
    threshold_metrics,
)
from .statistics import bootstrap_weights, hierarchical_weights, metric_interval
from .subsets import group_subsets

METRICS = (
    "auroc",
    "average_precision",
    "accuracy",
    "precision",
    "recall",
    "f1",
    "f1_macro",
    "brier",
    "ece",
)
COLUMNS = ("label", "logit", "probability", "prediction")
COUNTS = ("tp", "fp", "fn", "tn")


def all_metrics(label, logit, probability, prediction, weights=None):
    """{metric: value, or (R,) for a matrix of weights} of METRICS.

    Ranks are those of the logits: probabilities near 1 are equal in floating point.
    """
    return {
        "auroc": auroc(label, logit, weights),
        "average_precision": average_precision(label, logit, weights),
        **threshold_metrics(label, prediction, weights),
        "brier": brier(label, probability, weights),
        "ece": calibration_error(label, probability, weights),
    }


def evaluate(predictions, samples, *, resamples, seed, split="test"):
    """Metrics of one model and seed.

    Parameters
    ----------
    predictions : DataFrame of one predictions file
    samples : DataFrame, the samples table
    resamples, seed : of the bootstrap

    Returns
    -------
    {"threshold": float, "split": str, "subsets": {subset: {"n": int, "positives": int,
    metric: {"value", "low", "high"}, "tp": int, "fp": ..., "fn": ..., "tn": ...}}}
    """
    chosen = with_samples(predictions, samples, split)
    subsets = {}
    for name, mask in group_subsets(chosen):
        rows = chosen[mask]
        columns = [rows[c].to_numpy() for c in COLUMNS]
        weights = bootstrap_weights(rows["cluster_id"], resamples, seed)
        values, replicates = all_metrics(*columns), all_metrics(*columns, weights)
        counts = confusion(rows["label"].to_numpy(), rows["prediction"].to_numpy())
        intervals = {m: metric_interval(m, values[m], replicates[m], rows) for m in METRICS}
        subsets[name] = {
            "n": len(rows),
            "positives": int(rows["label"].sum()),
            **{
                metric: dict(zip(("value", "low", "high"), (values[metric], *bounds), strict=True))
                for metric, bounds in intervals.items()
            },
            **{count: int(value) for count, value in counts.items()},
        }
    return {"split": split, "threshold": float(chosen["threshold"].iat[0]), "subsets": subsets}


def with_samples(predictions, samples, split):
    """Predictions of a split joined with cluster_id and groups; every sample must be there."""
    of_split = samples[samples["split"] == split]
    chosen = predictions[predictions["split"] == split].drop(columns=["split", "label"])
    joined = of_split.merge(chosen, on="sample_id", validate="one_to_one")
    if len(joined) != len(of_split):
        raise ValueError(
            f"predictions of split {split}: found {len(joined)} of {len(of_split)} samples; is it "
            "among predict.splits?"
        )
    return joined


def comparison_rows(model, seed, metrics):
    """Rows of the comparison table for one model and seed."""
    rows = []
    for subset, found in metrics["subsets"].items():
        row = {"model": model, "seeds": str(seed), "subset": subset}
        row |= {"n": found["n"], "positives": found["positives"]}
        for metric in METRICS:
            row[metric] = found[metric]["value"]
            row[f"{metric}_low"] = found[metric]["low"]
            row[f"{metric}_high"] = found[metric]["high"]
        row |= {count: found[count] for count in COUNTS}
        rows.append(row | {"threshold": metrics["threshold"]})
    return rows


def compare(results, predictions, samples, *, resamples, seed):
    """The comparison table: a row per model, seed and subset; from 3 seeds up also their mean.

    Parameters
    ----------
    results : {(model, training seed): result of `evaluate`}
    predictions : DataFrame of all predictions with columns model and seed
    """
    rows = []
    for model in dict.fromkeys(model for model, _ in results):
        seeds = [training_seed for name, training_seed in results if name == model]
        for training_seed in seeds:
            rows += comparison_rows(model, training_seed, results[model, training_seed])
        if len(seeds) >= 3:
            chosen = predictions[predictions["model"] == model]
            rows += mean_rows(model, seeds, chosen, samples, resamples, seed)
    return pd.DataFrame(rows)


def mean_rows(model, seeds, predictions, samples, resamples, seed):
    """Rows with the mean over training seeds; intervals resample seeds and clusters."""
    runs = [with_samples(predictions[predictions["seed"] == s], samples, "test") for s in seeds]
    rows = []
    for name, mask in group_subsets(runs[0]):
        mask = mask.to_numpy()
        own = runs[0][mask]
        weights = hierarchical_weights(own["cluster_id"], len(runs), resamples, seed)
        drawn = weights.sum(2)
        values, replicates = [], []
        for position, run in enumerate(runs):
            columns = [run.loc[mask, c].to_numpy() for c in COLUMNS]
            values.append(all_metrics(*columns))
            replicates.append(all_metrics(*columns, weights[:, position]))
        row = {"model": model, "seeds": " ".join(map(str, seeds)), "subset": name}
        row |= {"n": len(own), "positives": int(own["label"].sum())}
        for metric in METRICS:
            per_seed = np.stack([r[metric] for r in replicates], 1)
            # A seed that was not drawn does not count; an undefined metric stays undefined.
            mean = np.where(drawn > 0, per_seed * drawn, 0).sum(1) / drawn.sum(1)
            row[metric] = float(np.mean([v[metric] for v in values]))
            bounds = metric_interval(metric, row[metric], mean, own)
            row[f"{metric}_low"], row[f"{metric}_high"] = bounds
        rows.append(row)
    return rows
