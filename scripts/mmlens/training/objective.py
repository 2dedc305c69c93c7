"""What a batch is trained for: classification, masked words, or the other half of a pair."""

from dataclasses import replace

import torch
import torch.nn.functional as F

from ..table import DataError, task_of
from .contrastive import contrastive_loss
from .losses import classification_loss


def check_objective(model, data, settings):
    """DataError if the model or the labels do not allow what section training asks for."""
    problems = []
    contrastive, task = settings["objective"] == "contrastive", task_of(data.samples)
    answers = task == "answers"
    problems += [
        f"split {split}: no samples to train {model.name} with; set dataset.split, or train: false "
        "in variants"
        for split in ("train", "val")
        if not len(data.split(split))
    ]
    if task == "classes" and not contrastive:
        problems.append(
            f"training.objective: found {settings['objective']}, but {model.name} is to tell "
            "classes by how well their names fit an image; expected contrastive"
        )
    if contrastive and not hasattr(model, "pair_embeddings"):
        problems.append(
            f"training.objective: found contrastive, but {model.name} has no embeddings of texts "
            "and images apart; expected classification"
        )
    elif contrastive and task != "classes" and not model.pair_logit:
        problems.append(
            f"training.objective: found contrastive, which does not train what {model.name} tells "
            "labels by; expected classification, or a model whose logit is the similarity of text "
            "and image (clip and siglip with head: similarity, blip_contrastive)"
        )
    metrics = ("recall", "loss") if contrastive else ("accuracy", "loss")
    metrics += () if contrastive or answers else ("auroc",)
    if contrastive and settings["processes"] > 1:
        problems.append(
            f"training.processes: found {settings['processes']}, but the contrastive objective "
            "compares all samples of a batch; expected 1"
        )
    if settings["select"] not in metrics:
        problems.append(
            f"training.select: found {settings['select']}, which this training does not have; "
            f"expected {' or '.join(metrics)}"
        )
    words = settings["masked_words"]
    if model.masked_words and words["weight"] and not contrastive:
        if answers and words["label"] is not None:
            problems.append(
                f"training.masked_words.label: found {words['label']}, but answers are no labels "
                "0 and 1; expected null"
            )
        if data.spec.mask_id is None:
            problems.append(
                f"training.masked_words.weight: found {words['weight']}, but the tokenizer of "
                f"{model.name} has no mask; expected 0"
            )
    if problems:
        raise DataError("the model, the data and section training do not agree", problems)


def batch_loss(model, data, index, settings, generator, device, part=slice(None)):
    """Loss of the samples `index`, or of the `part` of them that this process computes.

    Classification, and masked words where the model has them; or, with the contrastive objective,
    that of the pairs of text and image, whatever their labels.
    """
    count, index = len(index), index[part]
    batch = data.batch(index, device, share_images=True)
    kind = torch.device(device).type
    with torch.autocast(kind, torch.bfloat16, enabled=settings["precision"] == "bf16"):
        tokens = model.embed_shared(batch)
        if settings["objective"] == "contrastive":
            return pair_loss(model, batch, tokens)
        labels = data.targets(index).to(device)
        loss = classification_loss(model.logits(tokens).float(), labels, settings["loss"])
        masked = settings["masked_words"]
        if model.masked_words and masked["weight"]:
            everyone = torch.ones(len(index), dtype=torch.bool, device=device)
            chosen = everyone if masked["label"] is None else labels == masked["label"]
            # Drawn for the longest text of all and for the whole batch: neither how far it is
            # padded nor in how many parts it is computed changes what is hidden.
            drawn = torch.rand((count, data.input_ids.shape[1]), generator=generator)[part]
            drawn = drawn[:, : batch.input_ids.shape[1]].to(device) < masked["probability"]
            words = masked_word_loss(model, batch, tokens, chosen, drawn, data.spec.mask_id)
            loss = loss + masked["weight"] * words
    return loss


def pair_loss(model, batch, tokens):
    """The contrastive loss of a batch in which `image_rows` tells which image a sample shows."""
    text, image, scale, bias = model.pair_embeddings(tokens)
    return contrastive_loss(text.float(), image.float(), scale, bias, batch.image_rows)


def masked_word_loss(model, batch, tokens, chosen, drawn, mask_id):
    """Cross-entropy of words hidden behind [MASK]; 0 if none is.

    The objective of BERT, ViLT and BLIP, which needs the image where the words do not tell.

    Parameters
    ----------
    tokens : {modality: Tokens} of the batch; the image's are used as they are
    chosen : bool (B,), the samples that take part; drawn : bool (B, T), the tokens that are hidden
        if they are words
    mask_id : of the token [MASK]
    """
    hidden = drawn & batch.text_content & chosen[:, None]
    if not hidden.any():
        return torch.zeros((), device=chosen.device)
    masked = replace(batch, input_ids=batch.input_ids.masked_fill(hidden, mask_id))
    tokens = {"text": model.embed_text(masked).rows(chosen), "image": tokens["image"].rows(chosen)}
    logits = model.word_logits(model.word_states(tokens), tokens)
    return F.cross_entropy(logits[hidden[chosen]], batch.input_ids[hidden])
