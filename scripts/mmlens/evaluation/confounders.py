"""Confounder accuracy: samples that share an image or a text, and all of them right at once.

A model that reads one modality alone is right about at most one of two samples that share it and
have different labels (Kiela et al. 2020 build the Hateful Memes of such benign confounders).
"""

import numpy as np
import pandas as pd

from .classification import with_samples
from .statistics import mean_interval

COLUMNS = ("kind", "value", "low", "high", "chance", "groups", "n")
# What the samples of a group share.
KINDS = {"image": "image_sha256", "text": "text", "quad": "quad_id"}


def confounder_accuracy(predictions, samples, *, resamples, seed, split="test"):
    """Share of groups with every sample right, of one model and seed.

    A group is all samples of the split that share an image, a text or a quad, if they have
    different labels (best answers, which the prediction must be exactly). It counts as one of the
    cluster of its first sample.

    Returns
    -------
    DataFrame: COLUMNS, one row per kind that occurs; chance is what independent guesses get that
    are right as often as this model's, groups their number and n that of their samples
    """
    chosen = with_samples(predictions, samples, split)
    chosen = chosen[chosen["label"] >= 0]  # none of whose answers is in the vocabulary
    right = (chosen["prediction"] == chosen["label"]).to_numpy()
    rows = []
    for kind, column in KINDS.items():
        if column not in chosen:
            continue
        keys = chosen[column].where(chosen[column].fillna("") != "")
        mixed = (chosen.groupby(keys)["label"].transform("nunique") > 1).to_numpy()
        if not mixed.any():
            continue
        part = chosen[mixed].assign(right=right[mixed], key=keys[mixed])
        groups = part.groupby("key", sort=False).agg(
            all_right=("right", "all"), size=("right", "size"), cluster=("cluster_id", "first")
        )
        value, low, high = mean_interval(
            groups["all_right"], groups["cluster"], resamples, seed, share=True
        )
        chance = np.mean(right[mixed].mean() ** groups["size"].to_numpy())
        facts = {"chance": chance, "groups": len(groups), "n": int(mixed.sum())}
        rows.append({"kind": kind, "value": value, "low": low, "high": high, **facts})
    return pd.DataFrame(rows, columns=list(COLUMNS))
