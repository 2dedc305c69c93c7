"""Where explanations point: agreement with the masks and words that decide the label.

This is plausibility, not faithfulness: a model may have reasons of its own.
"""

import json

import numpy as np
import pandas as pd

from ..datasets.truth import NO_MASK, box_coverage, box_mask, coverage, decode_mask
from ..evaluation.statistics import mean_interval
from ..evaluation.subsets import prediction_subsets

METRICS = ("pointing", "mass", "rank", "mask_auc")
COLUMNS = ("model", "seed", "method", "modality", "truth", "metric", "subset")


def pointing(relevance, truth):
    """Pointing game (Zhang et al. 2018): does the most relevant token lie on the truth?

    0 or 1, unless several tie: then the share of them that do.

    relevance : (N,); truth : (N,) share of each token that the truth covers. A token is a hit
    if the truth covers any of it.
    """
    top = relevance == relevance.max()
    return float((truth[top] > 0).mean())


def mass(relevance, truth):
    """Share of the positive relevance that lies on the truth (relevance mass accuracy,
    Arras et al. 2022, eq. 1); NaN without positive relevance."""
    positive = np.maximum(relevance, 0)
    total = positive.sum()
    return float((positive * truth).sum() / total) if total > 0 else float("nan")


def rank(relevance, truth):
    """Share of the truth among as many most relevant tokens (relevance rank accuracy,
    Arras et al. 2022, eq. 2), by area: the truth covers K tokens, which need not be a whole
    number, so that the last of the K most relevant ones may count in part; ties share alike."""
    area = truth.sum()
    _, member, size = np.unique(-relevance, return_inverse=True, return_counts=True)
    before = np.cumsum(size) - size
    chosen = np.clip((area - before) / size, 0, 1)[member]
    return float((chosen * truth).sum() / area)


def mask_auc(relevance, truth):
    """AUROC of relevance as a detector of the truth, by area: a token covered by a share c
    counts as c positives and 1 - c negatives; ties count half."""
    order = np.argsort(relevance, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(relevance[order]) > 0])
    positive = np.add.reduceat(truth[order], starts)
    negative = np.add.reduceat(1 - truth[order], starts)
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / (positive.sum() * negative.sum()))


def truth_kinds(named):
    """Kinds of truth of the named objects: masks, and boxes if not all of them have a mask."""
    return ["mask", "box"] if (named["mask_counts"] == NO_MASK).any() else ["mask"]


def image_truth(truth, attributions, kind="mask"):
    """{sample_id: (P,) share of each patch or region that the named objects cover}.

    Where masks are asked for, samples with a named object that has only a box are left out.

    truth : the truth table; attributions : of one model, whose tokens are the same for all methods
    kind : "mask", or "box", which also covers what is around the object
    """
    tokens = attributions.drop_duplicates("sample_id").set_index("sample_id")
    named = truth[truth["named"] & truth["sample_id"].isin(tokens.index)]
    known = {}
    for sample_id, objects in named.groupby("sample_id", sort=False):
        if kind == "mask" and (objects["mask_counts"] == NO_MASK).any():
            continue
        read = decode_mask if kind == "mask" else box_mask
        mask = np.any([read(row) for row in objects.itertuples()], axis=0)
        own = tokens.loc[sample_id]
        if len(own["boxes"]):
            known[sample_id] = box_coverage(mask, np.reshape(own["boxes"], (-1, 4)))
        else:
            grid = (int(own["grid_rows"]), int(own["grid_columns"]))
            known[sample_id] = coverage(mask, grid).ravel()
    return known


def text_truth(truth, samples, tokens):
    """{sample_id: (T,) 1 for tokens that overlap a deciding word, else 0}.

    tokens : {sample_id: list of words in order}; they are found again in the text, left to right.
    """
    spans = truth.drop_duplicates("sample_id").set_index("sample_id")["word_spans"]
    texts = samples.set_index("sample_id")["text"]
    result = {}
    for sample_id, words in tokens.items():
        deciding = json.loads(spans.get(sample_id, "[]"))
        if deciding:
            marks, at = [], 0
            for word in words:
                start = texts[sample_id].index(word, at)
                at = start + len(word)
                marks.append(float(any(start < b and at > a for a, b in deciding)))
            result[sample_id] = np.array(marks)
    return result


def score_maps(attributions, modality, truth):
    """DataFrame sample_id, method, METRICS; random draws are averaged."""
    rows = []
    for row in attributions.itertuples():
        relevance, known = np.asarray(getattr(row, modality)), truth.get(row.sample_id)
        if known is None or not 0 < known.sum() < len(known):
            continue  # nothing to find, or nothing but it
        if len(relevance):
            scores = (f(relevance, known) for f in (pointing, mass, rank, mask_auc))
            rows.append((row.sample_id, row.method, *scores))
    frame = pd.DataFrame(rows, columns=["sample_id", "method", *METRICS])
    return frame.groupby(["sample_id", "method"], sort=False, as_index=False).mean()


def tabulate_localisation(attributions, samples, truth, *, resamples, seed):
    """Table of localisation metrics with 95% intervals over clusters.

    Returns
    -------
    DataFrame: model, seed, method, modality, truth (mask, box or words), metric, subset, value,
    low, high, n. Empty (with its columns) where the data set has no truth. Samples without
    positive relevance have no mass and are left out of it, hence its smaller n.
    """
    facts = samples.set_index("sample_id")
    # A table without rows has no types: its booleans would be read as names of columns.
    kinds = truth_kinds(truth[truth["named"].astype(bool)])
    rows = []
    for (model, training_seed), own in attributions.groupby(["model", "seed"], sort=False):
        # Tokens are the same for all methods, but not for all models.
        with_words = own[own["tokens"].map(len) > 0].drop_duplicates("sample_id")
        tokens = dict(zip(with_words["sample_id"], with_words["tokens"], strict=True))
        known = {("image", kind): image_truth(truth, own, kind) for kind in kinds}
        known["text", "words"] = text_truth(truth, samples, tokens)
        target = own.drop_duplicates("sample_id").set_index("sample_id")["target"]
        for (modality, kind), by_sample in known.items():
            scored = score_maps(own, modality, by_sample).join(facts, on="sample_id")
            for method, part in scored.groupby("method", sort=False):
                named = (model, training_seed, method, modality, kind)
                prediction = part["sample_id"].map(target)
                rows += [(*named, *row) for row in metric_rows(part, prediction, resamples, seed)]
    return pd.DataFrame(rows, columns=[*COLUMNS, "value", "low", "high", "n"])


def metric_rows(scored, prediction, resamples, seed):
    """(metric, subset, value, low, high, n) of one method's scores."""
    rows = []
    for metric in METRICS:
        valid = scored[metric].notna()
        for subset, mask in prediction_subsets(scored, prediction):
            mask = mask & valid
            if mask.any():
                values, clusters = scored.loc[mask, metric], scored.loc[mask, "cluster_id"]
                bounds = mean_interval(values, clusters, resamples, seed, share=True)
                rows.append((metric, subset, *bounds, int(mask.sum())))
    return rows
