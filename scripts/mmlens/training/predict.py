"""Prediction, such that identical inputs get identical outputs."""

import json

import numpy as np
import pandas as pd
import torch

BATCH = 250


@torch.no_grad()
def predict(model, data, rows, device, batch_size=BATCH):
    """Logits (N,), or (N, C) of C answers, of the rows `rows` of an EncodedSamples, on the CPU.

    Each distinct input (as far as the model reads it) is computed once: two samples that look
    the same to the model get the same bits, whatever batches they would have fallen into.
    """
    model.eval()
    seen = np.zeros((len(rows), 0), np.int64)
    if "text" in model.modalities:
        seen = np.hstack([seen, data.input_ids[rows].numpy()])
    if "image" in model.modalities:
        seen = np.hstack([seen, data.image_index[rows].numpy()[:, None]])
    _, first, inverse = np.unique(seen, axis=0, return_index=True, return_inverse=True)
    logits = [
        model.logits(model.embed_shared(data.batch(part, device, share_images=True))).cpu()
        for part in rows[torch.from_numpy(first)].split(batch_size)
    ]
    return torch.cat(logits)[torch.from_numpy(inverse.reshape(-1))]


def prediction_table(logits_of, data, splits, threshold=None, scores=False):
    """DataFrame of sample_id, split, label, logit, probability, prediction, threshold.

    With C answers or classes the prediction is the number of the one with the highest logit; logit
    and probability (its sigmoid, as in training) are that one's, the threshold is missing, and
    answers_top5 lists the five best as JSON.

    logits_of : function, rows of `data` -> logits (N,) or (N, C), such as `predict` of a model
    splits : those without samples are left out; ValueError if no other is left
    scores : whether to keep the logits of all answers or classes, as lists
    """
    parts = []
    present = set(data.samples["split"])
    if not present & set(splits):
        raise ValueError(
            f"predict.splits: found {', '.join(splits)}, but the data set has only samples of "
            f"{', '.join(sorted(present))}"
        )
    for split in filter(present.__contains__, splits):
        rows = data.split(split)
        logits = logits_of(rows).double()
        chosen = data.samples.iloc[rows.numpy()]
        said = binary_columns(logits, threshold) if logits.ndim == 1 else answer_columns(logits)
        if scores:
            said["scores"] = list(logits.float().numpy())
        known = {name: chosen[name].to_numpy() for name in ("sample_id", "split", "label")}
        parts.append(pd.DataFrame({**known, **said}))
    return pd.concat(parts, ignore_index=True)


def binary_columns(logits, threshold):
    """Columns of logits (N,) of label 1."""
    probability = torch.sigmoid(logits).numpy()
    return {
        "logit": logits.numpy(),
        "probability": probability,
        "prediction": (probability >= threshold).astype(int),
        "threshold": threshold,
    }


def answer_columns(logits):
    """Columns of logits (N, C) of answers."""
    best = logits.argsort(dim=1, descending=True, stable=True)[:, :5]
    logit = logits.gather(1, best[:, :1])[:, 0]
    return {
        "logit": logit.numpy(),
        "probability": torch.sigmoid(logit).numpy(),
        "prediction": best[:, 0].numpy(),
        "threshold": np.nan,
        "answers_top5": [json.dumps(row) for row in best.tolist()],
    }
