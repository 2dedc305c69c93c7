"""How a model ranks captions for images and images for captions, and its control without training.

A contrastive model compares all embeddings. One that scores pairs would need every image with every
caption; so another, contrastive one ranks them first, and of each ranking only the head is scored
and ordered anew, as in Li et al. (2021, ALBEF, section 4).
"""

import json

import numpy as np
import pandas as pd
import torch

from ..files import seed_from
from ..training.zero_shot import (
    image_embeddings,
    pair_logits,
    text_embeddings,
    texts_of,
)
from . import SHUFFLED

# kind: image (its captions are ranked), caption (images are) or classes; rank: of the best that is
# relevant, among `ranked` items of which `relevant` are
COLUMNS = ("control", "kind", "sample_id", "rank", "ranked", "relevant", "similarity", "scores")
AT_ONCE = 2_000_000  # entries of a matrix that are sorted together


def caption_table(samples):
    """The distinct captions of N images, and which belongs to which.

    samples : rows of the samples table of a data set of classes

    Returns
    -------
    captions : list of M texts; relevant : bool (N, M); images that share a text share it here
    """
    own = [json.loads(cell) for cell in samples["captions"]]
    number = {text: k for k, text in enumerate(dict.fromkeys(t for texts in own for t in texts))}
    relevant = np.zeros((len(own), len(number)), bool)
    for row, texts in enumerate(own):
        relevant[row, [number[text] for text in texts]] = True
    return list(number), relevant


def score_captions(model, data, rows, *, first=None, head=None, device):
    """Scores of all captions for all images, the first ones and those of the model itself.

    Parameters
    ----------
    model : Model in eval mode; data : EncodedSamples; rows : long (N,), its images
    first : (N, M) scores of another model, for one that scores pairs
    head : how many captions per image, and images per caption, are scored; None for all

    Returns
    -------
    own : (N, M) array, NaN where a pair was not scored
    kept : {"image": (N, D), "text": (M, D)}, embeddings of a contrastive model, else {}
    similarity : (N,) of an image with its own captions: mean cosine, or probability to match
    """
    captions, relevant = caption_table(data.samples.iloc[rows.numpy()])
    texts = texts_of(data, captions, int(rows[0]))
    if model.contrastive:
        text, _, _ = text_embeddings(model, texts, device)
        image, _, _ = image_embeddings(model, data, rows, device)
        own = (image @ text.T).double().numpy()
        return own, {"image": image.numpy(), "text": text.numpy()}, mean_over(own, relevant)
    chosen = np.ones(relevant.shape, bool) if first is None else head_of(first, head)
    pairs = np.argwhere(chosen | relevant)
    given = torch.stack([rows[pairs[:, 0]], torch.from_numpy(pairs[:, 1])], 1)
    logits = pair_logits(model, data, texts, given, device).double().numpy()
    own = np.full(relevant.shape, np.nan)
    own[tuple(pairs.T)] = logits
    similarity = mean_over(1 / (1 + np.exp(-own)), relevant)
    # The captions of an image are scored for their similarity; that must not help to rank them.
    own[~chosen] = np.nan
    return own, {}, similarity


def mean_over(values, relevant):
    """Mean (N,) of values (N, M) where `relevant` is true."""
    return np.where(relevant, values, 0).sum(1) / np.maximum(relevant.sum(1), 1)


def head_of(first, head):
    """bool (N, M): the `head` best captions of every image and images of every caption."""
    chosen = np.zeros(first.shape, bool)
    for axis in (0, 1):
        count = min(head, first.shape[axis])
        best = np.argpartition(-first, count - 1, axis=axis).take(range(count), axis=axis)
        np.put_along_axis(chosen, best, True, axis=axis)
    return chosen


def best_ranks(own, first, relevant, seed):
    """Rank (Q,), from 0, of the best relevant item of every query.

    What was scored comes before what was not; that by its score, this by the first score; ties in
    a random order that is the same for all queries.

    own : (Q, M), NaN where not scored; first : (Q, M); relevant : bool (Q, M)
    """
    tie = np.random.default_rng(seed_from("ties", seed)).permutation(relevant.shape[1])
    ranks = []
    for start in range(0, len(own), max(1, AT_ONCE // max(own.shape[1], 1))):
        part = slice(start, start + max(1, AT_ONCE // max(own.shape[1], 1)))
        score = np.where(np.isnan(own[part]), -np.inf, own[part])
        ties = np.broadcast_to(tie, score.shape)
        order = np.lexsort((ties, -first[part], -score), axis=-1)
        ranks.append(np.take_along_axis(relevant[part], order, 1).argmax(1))
    return np.concatenate(ranks)


def ranking_records(samples, own, first, similarity, control, seed):
    """Records of COLUMNS of a model's ranking: a row per image, and one per caption.

    samples : the N rows of the samples table; own, first : of `score_captions`; similarity : (N,)
    control : "", or SHUFFLED: with the captions of other images as the relevant ones
    """
    captions, relevant = caption_table(samples)
    if control == SHUFFLED:
        rng = np.random.default_rng(seed_from("shuffled captions", seed))
        relevant = relevant[rng.permutation(len(relevant))]
        similarity = np.full(len(similarity), np.nan)
    ids = samples["sample_id"].to_numpy()
    parts = []
    for kind, side in (("image", lambda matrix: matrix), ("caption", np.transpose)):
        targets = side(relevant)
        found = targets.any(1)
        ranks = best_ranks(side(own)[found], side(first)[found], targets[found], seed)
        # A caption is of the cluster of the first image that has it.
        of = ids if kind == "image" else ids[relevant.argmax(0)]
        values = similarity if kind == "image" else np.full(len(captions), np.nan)
        rows = {"sample_id": of[found], "rank": ranks, "relevant": targets[found].sum(1)}
        rows |= {"similarity": values[found], "ranked": targets.shape[1]}
        parts.append(pd.DataFrame(rows).assign(kind=kind, control=control))
    return pd.concat(parts, ignore_index=True)


def class_records(samples, values, cosines, control):
    """Records of COLUMNS with the scores of all classes, a row per image.

    values : (N, C) of `zero_shot.class_scores`; cosines : whether that is what they are; else the
    similarity of an image with the prompt of its class is the probability that they match
    """
    own = values[np.arange(len(samples)), samples["label"].to_numpy()]
    similarity = own if cosines else 1 / (1 + np.exp(-own))
    facts = {"sample_id": samples["sample_id"].to_numpy(), "scores": list(values)}
    frame = pd.DataFrame(facts | {"similarity": similarity, "ranked": values.shape[1]})
    return frame.assign(control=control, kind="classes")
