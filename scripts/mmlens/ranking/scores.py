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
DIRECTIONS = {"image": 1, "caption": 0}  # what ranks, and the axis of what it ranks
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
    own : {"image": (N, M), "caption": (N, M)} scores to rank captions and images by, NaN where the
        pair is not of the head of that ranking
    kept : {"image": (N, D), "text": (M, D)}, embeddings of a contrastive model, else {}
    similarity : (N,) of an image with its own captions: mean cosine, or probability to match
    """
    captions, relevant = caption_table(data.samples.iloc[rows.numpy()])
    texts = texts_of(data, captions, int(rows[0]))
    if model.contrastive:
        text, _, _ = text_embeddings(model, texts, device)
        image, _, _ = image_embeddings(model, data, rows, device)
        own = (image @ text.T).numpy()
        kept = {"image": image.numpy(), "text": text.numpy()}
        return dict.fromkeys(DIRECTIONS, own), kept, mean_of_own(own, relevant)
    heads = {kind: np.ones(relevant.shape, bool) for kind in DIRECTIONS}
    if first is not None:
        heads = {kind: head_of(first, head, axis) for kind, axis in DIRECTIONS.items()}
    # The captions of an image are scored too, for their similarity.
    pairs = np.argwhere(heads["image"] | heads["caption"] | relevant)
    given = torch.stack([rows[pairs[:, 0]], torch.from_numpy(pairs[:, 1])], 1)
    own = np.full(relevant.shape, np.nan, np.float32)
    own[tuple(pairs.T)] = pair_logits(model, data, texts, given, device).numpy()
    ranked = {kind: np.where(chosen, own, np.float32(np.nan)) for kind, chosen in heads.items()}
    return ranked, {}, mean_of_own(own, relevant, lambda logit: 1 / (1 + np.exp(-logit)))


def mean_of_own(scores, relevant, function=lambda score: score):
    """Mean (N,) over the captions of each image of a function of their scores (N, M)."""
    image, caption = np.nonzero(relevant)
    total = np.bincount(image, function(scores[image, caption].astype(float)), len(scores))
    return total / np.maximum(relevant.sum(1), 1)


def head_of(first, head, axis):
    """bool (N, M): the `head` best captions of every image (axis 1), or images of every caption."""
    chosen = np.zeros(first.shape, bool)
    lines, marked = (first, chosen) if axis == 1 else (first.T, chosen.T)
    count = min(head, lines.shape[1])
    for part in parts_of(lines):
        best = np.argpartition(-lines[part], count - 1, axis=1)[:, :count]
        marked[part][np.arange(len(best))[:, None], best] = True
    return chosen


def parts_of(matrix):
    """Slices of rows that hold AT_ONCE entries or so."""
    rows = max(1, AT_ONCE // max(matrix.shape[1], 1))
    return [slice(start, start + rows) for start in range(0, len(matrix), rows)]


def best_ranks(own, first, relevant, seed):
    """Rank (Q,), from 0, of the best relevant item of every query.

    What was scored comes before what was not; that by its score, this by the first score; ties in
    a random order that is the same for all queries.

    own : (Q, M), NaN where not scored; first : (Q, M); relevant : bool (Q, M), in every row some
    """
    tie = np.random.default_rng(seed_from("ties", seed)).permutation(relevant.shape[1])
    ranks = []
    for part in parts_of(own):
        score = np.where(np.isnan(own[part]), -np.inf, own[part])
        ties = np.broadcast_to(tie, score.shape)
        order = np.lexsort((ties, -first[part], -score), axis=-1)
        ranks.append(np.take_along_axis(relevant[part], order, 1).argmax(1))
    return np.concatenate(ranks)


def ranking_records(samples, own, first, similarity, control, seed):
    """Records of COLUMNS of a model's ranking: a row per image, and one per caption.

    samples : the N rows of the samples table; own, similarity : of `score_captions`
    first : (N, M) scores that rank what `own` does not
    control : "", RANDOM, or SHUFFLED: with the captions of other images as the relevant ones
    """
    _, relevant = caption_table(samples)
    if control == SHUFFLED:
        rng = np.random.default_rng(seed_from("shuffled captions", seed))
        relevant = relevant[rng.permutation(len(relevant))]
        similarity = np.full(len(similarity), np.nan)
    ids = samples["sample_id"].to_numpy()
    has, had = relevant.any(1), relevant.any(0)  # an image may have no caption
    ranks = best_ranks(own["image"][has], first[has], relevant[has], seed)
    of_images = {"sample_id": ids[has], "rank": ranks, "relevant": relevant.sum(1)[has]}
    of_images |= {"similarity": similarity[has], "ranked": relevant.shape[1], "kind": "image"}
    ranks = best_ranks(own["caption"].T[had], first.T[had], relevant.T[had], seed)
    # A caption is of the cluster of the first image that has it.
    of_captions = {"sample_id": ids[relevant.argmax(0)][had], "rank": ranks, "kind": "caption"}
    of_captions |= {"relevant": relevant.sum(0)[had], "ranked": relevant.shape[0]}
    frames = [pd.DataFrame(rows) for rows in (of_images, of_captions)]
    return pd.concat(frames, ignore_index=True).assign(control=control)


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
