"""What an explanation must beat without looking at the model's decision: contrast and position."""

import torch

from . import register_method
from .maps import for_all_tokens


@register_method("patch_variance", class_specific=False)
def patch_variance(capture):
    """Contrast of the input: the variance of what the model is given of each token.

    Patches: of the normalised pixels, mean over colour channels; frozen features: over the
    channels of a region's features; words: over the channels of the embedding, since the length of
    a word is not known to the model. Returns {modality: (B, N)}.
    """
    relevance = {}
    for modality, (values, _) in capture.embeddings.items():
        variance = image_variance(capture) if modality == "image" else channel_variance(values)
        content = capture.layout.content[modality]
        relevance[modality] = for_all_tokens(variance, content) * content
    return relevance


@register_method("token_position", class_specific=False, pieces="first")
def token_position(capture):
    """The order of words and patches: 1 for the first, falling linearly to 1 / n for the last.

    Patches are read row by row; regions are in the order of their extractor, detectors' from the
    surest on. Returns {modality: (B, N)}.
    """
    relevance = {}
    for modality, content in capture.layout.content.items():
        before = content.cumsum(1) - 1
        count = content.sum(1, keepdim=True).clamp(min=1)
        relevance[modality] = (1 - before / count) * content
    return relevance


def image_variance(capture):
    """Variance (B, N) within each patch of the pixels, or of the frozen features of each region."""
    image = capture.image[0]
    if image.ndim == 3:
        return channel_variance(image)
    rows, columns = capture.layout.grid
    cells = [
        image[:, :, top:bottom, left:right].flatten(2).var(2, correction=0).mean(1)
        for top, bottom in windows(image.shape[2], rows)
        for left, right in windows(image.shape[3], columns)
    ]
    return torch.stack(cells, 1)


def channel_variance(values):
    """Variance (B, N) over the D channels of values (B, N, D)."""
    return values.var(-1, correction=0)


def windows(size, count):
    """(start, stop) of the pixels of each of `count` cells of a side of `size` pixels."""
    return [(k * size // count, -(-(k + 1) * size // count)) for k in range(count)]
