"""How much a decision owes to each modality: Shapley share and the gap to an additive model."""

import numpy as np
import torch

from ..explanation.capture import target_logits
from ..explanation.coalitions import remaining
from .judges import judge_of
from .sanity import not_applicable, records


@torch.no_grad()
def coalition_values(model, tokens, target, batch_size):
    """{modalities present: logits (N,) of the target class}, of all four coalitions of two.

    Of an absent modality all words, patches or regions are removed at the model's input; its
    special tokens stay.

    tokens : {modality: Tokens} of N samples; target : bool (N,) or long (N,)
    """
    absent = {m: remaining(part, part.valid & ~part.content) for m, part in tokens.items()}
    values = {}
    for present in (("text", "image"), ("text",), ("image",), ()):
        shown = {m: tokens[m] if m in present else absent[m] for m in tokens}
        values[present] = torch.cat(
            [
                target_logits(model({m: t.rows(rows) for m, t in shown.items()}), target[rows])
                for rows in torch.arange(len(target), device=target.device).split(batch_size)
            ]
        )
    return {present: value.double().cpu().numpy() for present, value in values.items()}


def shapley_values(values):
    """{modality: (N,)} Shapley values (Shapley 1953) of the game of two players, exactly.

    They sum to the logit with both modalities minus that with none.

    values : {modalities present: (N,)}, see `coalition_values`
    """
    both, text, image, none = (values[p] for p in (("text", "image"), ("text",), ("image",), ()))
    return {
        "image": ((both - text) + (image - none)) / 2,
        "text": ((both - image) + (text - none)) / 2,
    }


def modality_share(model, tokens, sample_ids, target, batch_size):
    """Rows of the check modality_share: Shapley values and shares of both modalities per sample.

    A share is |phi| of a modality over the sum of both (as in MM-SHAP, Parcalabescu & Frank 2023,
    with whole modalities as players); NaN where both are 0.
    """
    if len(tokens) < 2:
        return not_applicable("modality_share", f"the model reads {next(iter(tokens))} alone")
    found = shapley_values(coalition_values(model, tokens, target, batch_size))
    total = sum(np.abs(part) for part in found.values())
    rows = []
    for modality, part in found.items():
        share = np.divide(np.abs(part), total, out=np.full(len(total), np.nan), where=total > 0)
        for measure, of_samples in (("shapley", part), ("share", share)):
            facts = {"check": "modality_share", "modality": modality, "measure": measure}
            rows += [
                {**facts, "sample_id": sample_id, "value": value}
                for sample_id, value in zip(sample_ids, of_samples, strict=True)
            ]
    return records(rows)


@torch.no_grad()
def additive_projection(model, tokens, batch_size):
    """Logits (N,) or (N, C) of N samples, and those of the nearest additive model (EMAP).

    Empirical multimodally-additive projection (Hessel & Lee 2020): the mean logit of a
    sample's text with all N images, plus that of its image with all texts, minus the mean of all
    N^2 pairs, each of which is a row of a forward pass.
    """
    count = len(tokens["text"].values)
    pairs = torch.arange(count**2, device=tokens["text"].values.device)
    own = by_text = by_image = None
    for part in pairs.split(batch_size):
        texts, images = part // count, part % count
        rows = {"text": tokens["text"].rows(texts), "image": tokens["image"].rows(images)}
        logits = model(rows).double()
        if own is None:
            own, by_text, by_image = (logits.new_zeros(count, *logits.shape[1:]) for _ in range(3))
        by_text.index_add_(0, texts, logits / count)
        by_image.index_add_(0, images, logits / count)
        own[texts[texts == images]] = logits[texts == images]
    return own, by_text + by_image - by_text.mean(0)


def emap(model, tokens, samples, answers, batch_size):
    """Rows of the check emap: logit (of two labels) and accuracy, of the model and projected.

    samples : DataFrame of the samples of `tokens`, with what the judge of their task reads
    answers : names of the model's outputs, where they are more than one
    """
    if len(tokens) < 2:
        return not_applicable("emap", f"the model reads {next(iter(tokens))} alone")
    judge, everyone = judge_of(samples, answers), range(len(samples))
    projections = zip(
        ("", "additive_"), additive_projection(model, tokens, batch_size), strict=True
    )
    rows = []
    for prefix, logits in projections:
        measures = {"accuracy": judge(logits, everyone)[:, 0]}
        if answers is None:
            measures["logit"] = logits.cpu().numpy()
        for measure, values in measures.items():
            facts = {"check": "emap", "measure": prefix + measure}
            rows += [
                {**facts, "sample_id": sample_id, "value": value}
                for sample_id, value in zip(samples["sample_id"], values, strict=True)
            ]
    return records(rows)
