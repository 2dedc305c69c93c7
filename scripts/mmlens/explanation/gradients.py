"""Methods that weigh features, attention or inputs by the gradient of the explained logit."""

import torch.nn.functional as F

from . import register_method
from .propagation import readout_map, row_of


@register_method("grad_cam", class_specific=True)
def grad_cam(capture):
    """Grad-CAM on a token layer (Selvaraju et al. 2017, eqs. 1-2).

    Channel weights are the mean gradient over the content tokens of the modality; the map is
    the positive part of the weighted sum of channels. Returns {modality: (B, N)}.
    """
    relevance = {}
    for modality, (features, gradient) in capture.features.items():
        content = capture.layout.content[modality][..., None]
        weights = (gradient * content).sum(1) / content.sum(1).clamp(min=1)
        relevance[modality] = (features @ weights[..., None])[..., 0].relu()
    return relevance


@register_method("attention_grad_cam", class_specific=True)
def attention_grad_cam(capture):
    """Grad-CAM on the heads of the last attention map (Chefer et al. 2021, baselines).

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


@register_method("saliency", class_specific=True)
def saliency(capture):
    """Input gradient (Simonyan et al. 2014).

    Image: mean over a patch's pixels of the gradient's L2 norm over colour channels; on frozen
    features, L2 norm of the gradient of a region's features.
    Text: L2 norm of the gradient of the word embedding. Returns {modality: (B, N)}.
    """
    relevance = {}
    if capture.image is not None:
        gradient = capture.image[1]
        if gradient.ndim == 4:
            norm = gradient.norm(dim=1, keepdim=True)
            per_token = F.adaptive_avg_pool2d(norm, capture.layout.grid).flatten(1)
        else:
            per_token = gradient.norm(dim=-1)
        tokens = capture.layout.content["image"].shape[1]
        # A class token, if there is one, comes first and has no input.
        relevance["image"] = F.pad(per_token, (tokens - per_token.shape[1], 0))
    if "text" in capture.embeddings:
        relevance["text"] = capture.embeddings["text"][1].norm(dim=-1)
    return relevance
