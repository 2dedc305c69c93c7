"""Zero-shot and retrieval tables, from the records of `scores`, with controls and chance."""

import json

import numpy as np
import pandas as pd

from ..evaluation.statistics import (
    bootstrap_weights,
    centred_interval,
    mean_interval,
    mean_share,
)
from ..files import seed_from
from ..metrics import average_precision
from . import RANDOM, SHUFFLED

ZERO_SHOT = ("control", "rule", "category", "metric", "value", "low", "high", "chance", "shuffled")
ZERO_SHOT += ("n",)
RETRIEVAL = ("control", "direction", "metric", "value", "low", "high", "chance", "n", "ranked")
RETRIEVAL += ("ranked_by",)
RULES = ("largest", "any")
BEST = (1, 5)  # classes of the top-k accuracies
RECALLS = (1, 5, 10)
DIRECTIONS = {"image": "image to text", "caption": "text to image"}


def zero_shot_table(records, samples, names, *, resamples, seed):
    """Zero-shot classification of one model and seed.

    An image shows several classes. By rule "largest" the one of its largest object counts as right,
    by rule "any" each that it shows. Average precision ranks all images for one class; mAP is its
    mean over the classes that occur.

    Parameters
    ----------
    records : DataFrame of `ranking.scores` of kind classes
    samples : DataFrame, the samples table
    names : the C classes

    Returns
    -------
    DataFrame: ZERO_SHOT; category "all" with top1, top5, map and similarity (of an image with the
    prompt of its class), and each class with top1 and average precision. control "" is the model,
    "shuffled_labels" the same against the labels of other images, "random_weights" the network with
    its parameters in random order. chance is the expected value of a random ranking, shuffled that
    of the control's own rankings when labels are dealt anew to the images: a network that ranks all
    images alike gets the frequency of its classes, and not chance. A class whose images are of one
    cluster has no interval.
    """
    records = records[records["kind"] == "classes"]
    tables = []
    for control, own in records.groupby("control", sort=False):
        joined = samples.merge(own, on="sample_id", validate="one_to_one")
        found = classified(joined, np.stack(joined["scores"]), names, resamples, seed)
        tables.append(found.assign(control=control))
        if control == "":
            order = np.random.default_rng(seed_from("shuffled labels", seed)).permutation(
                len(joined)
            )
            dealt = joined.assign(
                **{name: joined[name].to_numpy()[order] for name in ("label", "targets")},
                similarity=np.nan,
            )
            found = classified(dealt, np.stack(joined["scores"]), names, resamples, seed)
            tables.append(found.assign(control=SHUFFLED))
    return pd.concat(tables, ignore_index=True)[list(ZERO_SHOT)]


def classified(joined, scores, names, resamples, seed):
    """Rows of ZERO_SHOT without control; scores : (N, C)."""
    clusters = joined["cluster_id"].to_numpy()
    weights = bootstrap_weights(clusters, resamples, seed)
    number = {name: k for k, name in enumerate(names)}
    present = np.zeros(scores.shape, bool)
    for row, cell in enumerate(joined["targets"]):
        present[row, [number[name] for name in json.loads(cell)]] = True
    largest = np.arange(len(names)) == joined["label"].to_numpy()[:, None]
    # Ties in a random order: a network that says the same of all would else say the first class.
    tie = np.random.default_rng(seed_from("ties", seed)).permutation(len(names))
    best = np.lexsort((np.broadcast_to(tie, scores.shape), -scores), axis=-1)
    rows = []

    def add(facts, found, chance, shuffled, count):
        bounds = dict(zip(("value", "low", "high"), found, strict=True))
        rows.append({**facts, **bounds, "chance": chance, "shuffled": shuffled, "n": count})

    whole = {"category": "all", "rule": "any"}
    for rule, right in zip(RULES, (largest, present), strict=True):
        count = right.sum(1)
        for k in BEST:
            hit = np.take_along_axis(right, best[:, :k], 1).any(1)
            chance = np.mean(1 - missed(len(names), count, k))
            facts = {**whole, "rule": rule, "metric": f"top{k}"}
            shuffled = dealt_anew(best[:, :k], right)
            add(facts, mean_share(hit, clusters), chance, shuffled, len(joined))
    similarity = joined["similarity"].to_numpy(float)
    if not np.isnan(similarity).all():
        found = mean_interval(similarity, clusters, resamples, seed)
        facts = {**whole, "rule": "", "metric": "similarity"}
        add(facts, found, np.nan, np.nan, len(joined))
    known = np.flatnonzero(present.any(0))
    of_class = [(present[:, k], scores[:, k]) for k in known]
    precision = np.array([average_precision(*columns) for columns in of_class])
    drawn = np.array([average_precision(*columns, weights) for columns in of_class])
    without_ties = np.arange(len(joined))
    chance = [random_precision(right.sum(), without_ties) for right, _ in of_class]
    dealt = [random_precision(right.sum(), values) for right, values in of_class]
    bounds = (np.nan, np.nan)
    if len(set(clusters)) > 1:
        bounds = centred_interval(precision.mean(), np.nanmean(drawn, 0))
    found = (precision.mean(), *bounds)
    add({**whole, "metric": "map"}, found, np.mean(chance), np.mean(dealt), len(joined))
    for place, k in enumerate(known):
        facts = {"category": names[k], "rule": "largest", "metric": "top1"}
        own = joined["label"].to_numpy() == k
        if own.any():
            found = mean_share(best[own, 0] == k, clusters[own])
            add(facts, found, 1 / len(names), (best[:, 0] == k).mean(), int(own.sum()))
        bounds = (np.nan, np.nan)
        if len(set(clusters[present[:, k]])) > 1:
            bounds = centred_interval(precision[place], drawn[place])
        facts = {"category": names[k], "rule": "any", "metric": "average_precision"}
        count = int(present[:, k].sum())
        add(facts, (precision[place], *bounds), chance[place], dealt[place], count)
    return pd.DataFrame(rows)


def dealt_anew(best, right):
    """Share of all N^2 pairs of a ranking and an image in which a best class is a right one.

    best : long (N, K), classes of every ranking; right : bool (N, C), of every image
    """
    return np.mean([right[:, classes].any(1).mean() for classes in best])


def random_precision(relevant, scores):
    """Expected average precision of `scores` (N,) if `relevant` of the items are drawn at random.

    Bestgen (2015, eq. 2), with items of one score ranked as one, as `average_precision` does.
    """
    _, sizes = np.unique(-np.asarray(scores, float), return_counts=True)
    ranked, items = np.cumsum(sizes), sizes.sum()
    others = (relevant - 1) / (items - 1) if items > 1 else 0.0
    return (sizes / ranked * (1 + (ranked - 1) * others)).sum() / items


def missed(items, relevant, best):
    """Chance that none of `relevant` items (N,) is among the `best` of `items` in random order."""
    relevant = np.asarray(relevant)
    left = np.ones(len(relevant))
    for place in range(min(best, items)):
        left *= np.clip((items - relevant - place) / (items - place), 0, 1)
    return left


def retrieval_table(records, samples, ranked_by="", *, resamples, seed):
    """Retrieval of one model and seed: recall at 1, 5 and 10 both ways.

    An image is found by any of its captions, a caption by any image that has it. The controls are
    those of `zero_shot_table`.

    ranked_by : model whose ranking this one orders anew at its head, "" where it ranks itself

    Returns
    -------
    DataFrame: RETRIEVAL; metrics r1, r5, r10, and for image to text the similarity of an image with
    its own captions; ranked is the number of items that each query ranks,
    ranked_by who ranked them first: for random weights random numbers
    """
    clusters = samples.set_index("sample_id")["cluster_id"]
    rows = []
    chosen = records[records["kind"].isin(DIRECTIONS)]
    for (control, kind), own in chosen.groupby(["control", "kind"], sort=False):
        of_whom = own["sample_id"].map(clusters)
        items = int(own["ranked"].iat[0])
        facts = {"control": control, "direction": DIRECTIONS[kind], "n": len(own), "ranked": items}
        facts["ranked_by"] = "random numbers" if ranked_by and control == RANDOM else ranked_by
        metrics = {f"r{k}": mean_share(own["rank"] < k, of_whom) for k in RECALLS}
        if own["similarity"].notna().any():
            metrics["similarity"] = mean_interval(own["similarity"], of_whom, resamples, seed)
        chances = {f"r{k}": np.mean(1 - missed(items, own["relevant"], k)) for k in RECALLS}
        for metric, (value, low, high) in metrics.items():
            found = {"metric": metric, "value": value, "low": low, "high": high}
            rows.append(facts | found | {"chance": chances.get(metric, np.nan)})
    return pd.DataFrame(rows, columns=list(RETRIEVAL))
