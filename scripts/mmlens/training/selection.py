"""Validation, and which epoch's weights it chooses."""

import torch
import torch.nn.functional as F

from ..metrics import auroc
from .contrastive import contrastive_loss
from .predict import predict


def validate(model, data, settings, device):
    """Metrics on the split val, computed in full precision.

    Returns
    -------
    dict of val_loss and, for two labels, val_auroc and val_accuracy (at probability 0.5); for
    answers, val_accuracy (mean soft score of the likeliest answer); for pairs, val_recall (see
    `validate_pairs`). The loss is cross-entropy without smoothing, weights and focus.
    """
    rows = data.split("val")
    if settings["objective"] == "contrastive":
        return validate_pairs(model, data, rows, settings["batch_size"], device)
    logits = predict(model, data, rows, device)
    if data.outputs > 1:
        return answer_metrics(logits, data, rows)
    labels = data.labels[rows]
    return {
        "val_loss": F.binary_cross_entropy_with_logits(logits, labels).item(),
        "val_auroc": auroc(labels.numpy(), logits.numpy()),
        "val_accuracy": ((logits > 0) == (labels > 0.5)).float().mean().item(),
    }


def answer_metrics(logits, data, rows):
    """val_loss and val_accuracy of the logits (N, C) of the rows `rows`."""
    loss, score = 0.0, 0.0
    for part, these in zip(rows.split(1000), logits.split(1000), strict=True):
        targets = data.targets(part)
        loss += F.binary_cross_entropy_with_logits(these, targets, reduction="sum").item()
        score += targets.gather(1, these.argmax(1, keepdim=True)).sum().item()
    return {"val_loss": loss / len(rows), "val_accuracy": score / len(rows)}


@torch.no_grad()
def validate_pairs(model, data, rows, batch_size, device):
    """val_loss and val_recall of pairs.

    val_loss : mean of the batches, in the order of the table; val_recall : share of texts whose
    nearest image of all in `rows` is theirs, and of images for which the nearest text is one of
    theirs, averaged (recall at 1).
    """
    model.eval()
    texts, images, losses = [], [], []
    for part in rows.split(batch_size):
        batch = data.batch(part, device, share_images=True)
        text, image, scale, bias = model.pair_embeddings(model.embed_shared(batch))
        losses.append(contrastive_loss(text, image, scale, bias, batch.image_rows) * len(part))
        texts.append(text)
        images.append(image)
    text, image, shown = torch.cat(texts), torch.cat(images), data.image_index[rows].to(device)
    recalls = [right_first(text, image, shown), right_first(image, text, shown)]
    return {
        "val_loss": (sum(losses) / len(rows)).item(),
        "val_recall": torch.stack(recalls).mean().item(),
    }


def right_first(queries, candidates, shown):
    """Share of queries (N, D) whose nearest candidate (N, D) belongs to an equal `shown` (N,)."""
    nearest = torch.cat([(part @ candidates.T).argmax(1) for part in queries.split(1000)])
    return (shown[nearest] == shown).float().mean()


def selection_score(record, select):
    """The validation metric by which epochs are compared; more is better."""
    value = record[f"val_{select}"]
    return -value if select == "loss" else value


def is_stopped(epoch, best, patience):
    """Whether training ends before epoch number `epoch` (from 0), the best one being `best`."""
    return patience is not None and epoch - best >= patience
