"""SmoothGrad: saliency of the gradient's mean under noise."""

from dataclasses import replace

import numpy as np
import torch

from ..files import seed_from
from . import register_method
from .gradients import saliency


@register_method(
    "smooth_grad",
    class_specific=True,
    arguments={
        "samples": {"type": "integer", "minimum": 1},
        "noise": {"type": "number", "exclusiveMinimum": 0},
    },
)
def smooth_grad(capture, samples=16, noise=0.15):
    """SmoothGrad (Smilkov et al. 2017): the mean gradient under Gaussian noise, read as `saliency`.

    The noise is on pixels, or frozen features, and on word embeddings at once; its standard
    deviation is a share of the range of their values in a sample.

    samples : number of draws per sample, each a forward and a backward pass of the batch
    noise : that share
    Returns {modality: (B, N)}.
    """
    clean, shown = model_inputs(capture)
    scale = {m: noise * value_range(values, shown[m]) for m, values in clean.items()}
    total = {m: torch.zeros_like(values) for m, values in clean.items()}
    for draw in range(samples):
        noisy = {
            m: values + scale[m] * input_noise(values, shown[m], capture.sample_ids, (m, draw))
            for m, values in clean.items()
        }
        for modality, gradient in input_gradients(capture, noisy).items():
            total[modality] += gradient / samples
    pairs = {m: (values, total[m]) for m, values in clean.items()}
    smooth = replace(capture, image=pairs.get("image"), embeddings=pairs)
    content = capture.layout.content
    return {m: values * content[m] for m, values in saliency(smooth).items()}


def model_inputs(capture):
    """What gets noise: {modality: values} and {modality: bool that broadcasts to them}.

    Pixels (B, 3, S, S) or frozen features (B, N, D), of which regions count; embeddings (B, T, D),
    of which words count.
    """
    values, shown = {}, {}
    if capture.image is not None:
        values["image"] = image = capture.image[0]
        shown["image"] = torch.ones_like(image[:, :1], dtype=torch.bool)
        if image.ndim == 3:
            # A class token, if there is one, comes first and has no features.
            shown["image"] = capture.layout.content["image"][:, -image.shape[1] :, None]
    if "text" in capture.tokens:
        values["text"] = capture.tokens["text"].values
        shown["text"] = capture.tokens["text"].content[..., None]
    return values, shown


def input_gradients(capture, values):
    """{modality: ds/dvalues} at other values of what `model_inputs` gives."""
    with torch.enable_grad():
        values = {m: part.detach().requires_grad_() for m, part in values.items()}
        tokens = capture.embed(values["image"]) if "image" in values else dict(capture.tokens)
        if "text" in values:
            tokens["text"] = replace(capture.tokens["text"], values=values["text"])
        score = capture.score(tokens).sum()
        gradients = torch.autograd.grad(score, list(values.values()), materialize_grads=True)
    return dict(zip(values, gradients, strict=True))


def value_range(values, shown):
    """Largest minus smallest value that is shown of each sample, (B, 1, ...); 0 where none is."""
    inner = tuple(range(1, values.ndim))
    highest = values.masked_fill(~shown, float("-inf")).amax(inner, keepdim=True)
    lowest = values.masked_fill(~shown, float("inf")).amin(inner, keepdim=True)
    return torch.where(shown.any(dim=inner, keepdim=True), highest - lowest, 0)


def input_noise(values, shown, sample_ids, keys):
    """Standard normal noise where `shown`, 0 elsewhere, keyed by sample and `keys`."""
    noise = np.empty(values.shape)
    for k, sample_id in enumerate(sample_ids):
        rng = np.random.default_rng(seed_from("smooth_grad", *keys, sample_id))
        # Padding comes last, so that more of it leaves the rest as it is.
        noise[k] = rng.standard_normal(values.shape[1:])
    return torch.from_numpy(noise).to(values) * shown
