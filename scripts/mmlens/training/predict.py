"""Prediction, such that identical inputs get identical outputs."""

import numpy as np
import pandas as pd
import torch

BATCH = 250


@torch.no_grad()
def predict(model, data, rows, device, batch_size=BATCH):
    """Logits (N,) of the rows `rows` (long tensor) of an EncodedSamples, on the CPU.

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
        model(model.embed(data.batch(part, device, share_images=True))).cpu()
        for part in rows[torch.from_numpy(first)].split(batch_size)
    ]
    return torch.cat(logits)[torch.from_numpy(inverse.reshape(-1))]


def prediction_table(model, data, splits, threshold, device):
    """DataFrame of sample_id, split, label, logit, probability, prediction, threshold."""
    parts = []
    for split in splits:
        rows = data.split(split)
        logits = predict(model, data, rows, device).double()
        probability = torch.sigmoid(logits).numpy()
        chosen = data.samples.iloc[rows.numpy()]
        parts.append(
            pd.DataFrame(
                {
                    "sample_id": chosen["sample_id"].to_numpy(),
                    "split": split,
                    "label": chosen["label"].to_numpy(),
                    "logit": logits.numpy(),
                    "probability": probability,
                    "prediction": (probability >= threshold).astype(int),
                    "threshold": threshold,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)
