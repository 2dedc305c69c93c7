"""Accuracy of answers and of classes per subset, with intervals over clusters."""

import json
from collections import Counter

import numpy as np
import pandas as pd

from .classification import with_samples
from .statistics import hierarchical_weights, mean_interval, share_interval
from .subsets import group_subsets
from .vqa import soft_accuracy

METRICS = ("accuracy", "accuracy_top5")


def per_sample(predictions, samples, names, any_present=False, split="test"):
    """The samples of a split with the columns METRICS.

    accuracy : VQA accuracy of the answer, or whether the class is right; accuracy_top5 : of the
    best of the five with the highest logits

    predictions : DataFrame of one model and seed; names : the answers of the vocabulary, or the
    classes; any_present : whether every class that an image shows is right, not its label alone
    """
    chosen = with_samples(predictions, samples, split)
    best = [json.loads(cell) for cell in chosen["answers_top5"]]
    if "answers" in chosen:
        right, score = chosen["answers"].map(json.loads), soft_accuracy
    else:
        right = chosen["targets"].map(json.loads) if any_present else chosen["label_name"]
        right, score = right.map(as_list), is_right
    reached = [
        [score(names[answer], own) for answer in answers]
        for answers, own in zip(best, right, strict=True)
    ]
    return chosen.assign(
        accuracy=[row[0] for row in reached], accuracy_top5=[max(row) for row in reached]
    )


def best_constant(chosen, any_present=False):
    """Accuracy (Series by sample_id) of the one answer, or class, that is right most often.

    chosen : rows of the samples table; any_present : as in `per_sample`
    """
    if "answers" in chosen:
        totals = Counter()
        for cell in chosen["answers"]:
            totals.update(json.loads(cell))
        name = max(totals, key=totals.get, default="")
        scores = [score_answer(name, cell) for cell in chosen["answers"]]
    else:
        right = [json.loads(c) for c in chosen["targets"]] if any_present else chosen["label_name"]
        right = [as_list(value) for value in right]
        counts = Counter(value for values in right for value in values)
        name = max(counts, key=counts.get, default="")
        scores = [is_right(name, values) for values in right]
    return pd.Series(scores, chosen["sample_id"].to_numpy(), float)


def score_answer(name, cell):
    """`soft_accuracy` of an answer; cell : of the samples table's column answers."""
    return soft_accuracy(name, json.loads(cell))


def as_list(value):
    return value if isinstance(value, list) else [value]


def is_right(name, right):
    """1.0 if a class is among those that count as right, else 0.0."""
    return float(name in right)


def evaluate_answers(
    predictions, samples, names, any_present=False, *, resamples, seed, split="test"
):
    """Metrics of one model and seed, in the form of `classification.evaluate`.

    Returns
    -------
    {"split": str, "subsets": {subset: {"n": int, metric: {"value", "low", "high"}}}}
    """
    chosen = per_sample(predictions, samples, names, any_present, split)
    subsets = {}
    for name, mask in group_subsets(chosen):
        rows = chosen[mask]
        values, clusters = rows[list(METRICS)], rows["cluster_id"]
        found = mean_interval(values, clusters, resamples, seed, share=True)
        keys = ("value", "low", "high")
        subsets[name] = {"n": len(rows)} | {
            metric: dict(zip(keys, map(float, triple), strict=True))
            for metric, *triple in zip(METRICS, *found, strict=True)
        }
    return {"split": split, "subsets": subsets}


def compare_answers(results, predictions, samples, names, any_present=False, *, resamples, seed):
    """The comparison table: a row per model, seed and subset; from 3 seeds up also their mean.

    results : {(model, training seed): result of `evaluate_answers`}
    predictions : DataFrame of all predictions with columns model and seed
    """
    rows = []
    for model in dict.fromkeys(model for model, _ in results):
        seeds = [training_seed for name, training_seed in results if name == model]
        for training_seed in seeds:
            for subset, found in results[model, training_seed]["subsets"].items():
                row = {"model": model, "seeds": str(training_seed), "subset": subset}
                rows.append(row | {"n": found["n"]} | columns(found))
        if len(seeds) >= 3:
            own = predictions[predictions["model"] == model]
            runs = [per_sample(own[own["seed"] == s], samples, names, any_present) for s in seeds]
            rows += mean_rows(model, seeds, runs, resamples, seed)
    return pd.DataFrame(rows)


def columns(found):
    """{metric, metric_low, metric_high: value} of one subset."""
    keys = {"": "value", "_low": "low", "_high": "high"}
    return {f"{m}{end}": found[m][key] for m in METRICS for end, key in keys.items()}


def mean_rows(model, seeds, runs, resamples, seed):
    """Rows with the mean over training seeds; intervals resample seeds and clusters."""
    rows = []
    for name, mask in group_subsets(runs[0]):
        values = np.stack([run.loc[mask.to_numpy(), list(METRICS)].to_numpy() for run in runs])
        clusters = runs[0].loc[mask, "cluster_id"]
        weights = hierarchical_weights(clusters, len(runs), resamples, seed)
        means = np.einsum("rsn,snm->rm", weights, values) / weights.sum((1, 2))[:, None]
        found = {}
        for metric, mean, drawn in zip(METRICS, values.mean((0, 1)), means.T, strict=True):
            low, high = share_interval(mean, clusters, drawn.var())
            found[metric] = {"value": mean, "low": low, "high": high}
        row = {"model": model, "seeds": " ".join(map(str, seeds)), "subset": name}
        rows.append(row | {"n": int(mask.sum())} | columns(found))
    return rows
