"""The explained logit with only some words and patches at the model's input."""

import torch

from ..models.base import Tokens

ROWS = 32  # of a forward pass, where the batch itself has no more


def players(capture):
    """Bool (B, N): which tokens may be removed, those of all modalities side by side."""
    return torch.cat([part.content for part in capture.tokens.values()], 1)


def by_modality(capture, values):
    """{modality: (B, N of the modality)} of values (B, N) of all modalities side by side."""
    sizes = [part.content.shape[1] for part in capture.tokens.values()]
    return dict(zip(capture.tokens, values.split(sizes, 1), strict=True))


@torch.no_grad()
def coalition_scores(capture, rows, shown):
    """Logits (K,) of the target class with only some tokens at the model's input.

    Tokens are removed as `perturbation.engine` does it, by gathering those that remain. A forward
    pass takes as many rows as the batch has, or ROWS if these are more.

    Parameters
    ----------
    rows : long (K,), the sample of each
    shown : bool (K, N), the words and patches that remain, of all modalities side by side; special
        tokens always remain
    """
    shown = by_modality(capture, shown)
    kept = {m: t.valid[rows] & (shown[m] | ~t.content[rows]) for m, t in capture.tokens.items()}
    order = passes(kept, max(ROWS, len(capture.sample_ids)))
    scores = [
        capture.score(
            {m: remaining(t.rows(rows[part]), kept[m][part]) for m, t in capture.tokens.items()},
            rows[part],
        )
        for part in order
    ]
    return torch.cat(scores)[torch.cat(order).argsort()]


def passes(kept, most):
    """Which rows go through the model together: list of long tensors of at most `most` rows.

    They have the same number of image tokens, as some image towers have no masks, and texts of
    similar length, which are padded to the longest.

    kept : {modality: bool (K, N)}
    """
    lengths = {modality: part.sum(1) for modality, part in kept.items()}
    some = next(iter(lengths.values()))
    order = torch.arange(len(some), device=some.device)
    for modality in ("text", "image"):
        if modality in lengths:
            order = order[lengths[modality][order].argsort(stable=True)]
    if "image" not in lengths:
        return list(order.split(most))
    _, counts = lengths["image"][order].unique_consecutive(return_counts=True)
    return [part for group in order.split(counts.tolist()) for part in group.split(most)]


def remaining(tokens, kept):
    """Tokens of which those `kept` (bool (K, N)) come first, padded to the most that a row has."""
    places = (~kept).byte().argsort(dim=1, stable=True)[:, : int(kept.sum(1).max())]
    found, kept = tokens.gather(places), kept.gather(1, places)
    return Tokens(found.values, kept, found.content & kept)
