"""What became of a sample: how the prediction compares with the label."""

import numpy as np

from ..evaluation.subsets import strata
from ..table import task_of

CASES = {(1, 1): "TP", (0, 0): "TN", (0, 1): "FP", (1, 0): "FN"}  # of label and prediction
OUTCOMES = (*CASES.values(), "right", "wrong")


def outcomes(samples, prediction):
    """One of OUTCOMES per sample, as array of str.

    Of two labels TP, TN, FP or FN; of many answers right, where the prediction is the best answer,
    or wrong.

    samples : the samples table, or rows of it; prediction : (N,) class of each
    """
    label = samples["label"].to_numpy()
    if task_of(samples) == "binary":
        return np.array([CASES[pair] for pair in zip(label, prediction, strict=True)])
    return np.where(label == np.asarray(prediction), "right", "wrong")


def outcome_subsets(frame):
    """(name, bool mask) of all samples, of each outcome that occurs and of each stratum.

    frame : DataFrame with column outcome, and group_stratum where there are strata
    """
    yield "all", frame["outcome"].notna()
    for outcome in OUTCOMES:
        if (frame["outcome"] == outcome).any():
            yield outcome, frame["outcome"] == outcome
    yield from strata(frame)
