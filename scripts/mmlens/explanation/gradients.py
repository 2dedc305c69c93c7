"""Methods that weigh features, attention or inputs by the gradient of the explained logit."""

import torch.nn.functional as F

from . import NotApplicableError, register_method
from .maps import for_all_tokens
from .propagation import readout_map, row_of


@register_method("grad_cam", class_specific=True)
def grad_cam(capture):
    """Grad-CAM on a layer (Selvaraju et al. 2017, eqs. 1-2).

    Channel weights are the mean gradient over the content tokens of the modality, or over all
    places of a convolution; the map is the positive part of the weighted sum of channels. That of
    a convolution is brought to the model's patches by the mean over each of them, or, where it has
    fewer places than patches, repeated. Returns {modality: (B, N)}.
    """
    relevance = {}
    for modality in capture.layout.spans:
        if modality not in capture.features:
            raise NotApplicableError(f"the model names no layer for the {modality}")
        features, gradient = capture.features[modality]
        content = capture.layout.content[modality]
        if features.ndim == 4:
            weights = gradient.mean((2, 3), keepdim=True)
            places = (features * weights).sum(1).relu()
            relevance[modality] = patch_means(places, capture.layout.grid, content)
        else:
            counted = content[..., None]
            weights = (gradient * counted).sum(1) / counted.sum(1).clamp(min=1)
            relevance[modality] = (features @ weights[..., None])[..., 0].relu()
    return relevance


def patch_means(places, grid, content):
    """Means (B, N) of a map (B, h, w) over the patches of a grid, for the N tokens of the image."""
    patches = F.adaptive_avg_pool2d(places[:, None], grid).flatten(1)
    return for_all_tokens(patches, content)


@register_method("attention_grad_cam", class_specific=True)
def attention_grad_cam(capture):
    """Grad-CAM on the heads of the last attention map (Chefer et al. 2021, baselines).

    That of the image is the text's cross-attention, where there is one, that of the text its own.
    Head weights are the mean gradient over valid queries and keys only, so that padding does
    not change the map. Returns {modality: (B, N)}.
    """
    relevance = {}
    for modality, span in capture.layout.spans.items():
        found, row = readout_map(capture, modality, prefer_cross=True)
        queries, keys = (capture.layout.valid[s].float() for s in (found.query, found.key))
        valid = (queries[:, :, None] * keys[:, None, :])[:, None]
        weights = (found.gradient * valid).sum((2, 3), keepdim=True) / valid.sum((2, 3), True)
        combined = (weights * found.heads).mean(1).relu()
        relevance[modality] = row_of(combined, row)[:, span.slice]
    return relevance


@register_method("saliency", class_specific=True, pixels=True)
def saliency(capture):
    """Input gradient (Simonyan et al. 2014).

    Image: mean over a patch's pixels of the gradient's L2 norm over colour channels; on frozen
    features, L2 norm of the gradient of a region's features.
    Text: L2 norm of the gradient of the word embedding. Returns {modality: (B, N)}.
    """
    relevance = {}
    if capture.image is not None:
        gradient, content = capture.image[1], capture.layout.content["image"]
        if gradient.ndim == 4:
            relevance["image"] = patch_means(gradient.norm(dim=1), capture.layout.grid, content)
        else:
            relevance["image"] = for_all_tokens(gradient.norm(dim=-1), content)
    if "text" in capture.embeddings:
        relevance["text"] = capture.embeddings["text"][1].norm(dim=-1)
    return relevance
