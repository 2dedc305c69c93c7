"""Methods that read gradients at the tokens of the model's input, of one pass or of several.

Words and patches vary together; special tokens stay as they are and have no relevance. These
tokens are the embeddings of words and patches, the features of regions, the cells of a ResNet.
"""

from dataclasses import replace

import numpy as np
import torch

from . import register_method

TOLERANCE = 0.1  # of integrated gradients: what their sum may miss of the logit's change


@register_method("input_x_gradient", class_specific=True)
def input_x_gradient(capture):
    """Gradient times input (Shrikumar et al. 2016), summed over the D channels of a token.

    Signed. Returns {modality: (B, N)}.
    """
    return {
        modality: (values * gradient).sum(-1) * capture.layout.content[modality]
        for modality, (values, gradient) in capture.embeddings.items()
    }


@register_method(
    "integrated_gradients",
    class_specific=True,
    arguments={
        "steps": {"type": "integer", "minimum": 1},
        "power": {"type": "number", "minimum": 1},
    },
)
def integrated_gradients(capture, steps=50, power=3):
    """Integrated gradients (Sundararajan, Taly & Yan 2017, eq. 1) from words and patches of zeros.

    The gradient's mean on the straight line between these and the tokens, times the tokens, summed
    over channels; the integral by Gauss-Legendre quadrature. Signed. Up to the error of the
    quadrature, of which a large one is printed, the maps of a sample sum to its logit minus that
    of the zeros (completeness).

    steps : number of points, each a forward and a backward pass of the batch
    power : the points are those of the quadrature to this power, weighted accordingly; above 1
        they are dense near the zeros, where layer norms let the logit change fast
    Returns {modality: (B, N)}.
    """
    total = {m: torch.zeros_like(part.values) for m, part in capture.tokens.items()}
    points, weights = np.polynomial.legendre.leggauss(steps)
    points, weights = (1 + points) / 2, weights / 2  # from [-1, 1] to [0, 1]
    weights = weights * power * points ** (power - 1)
    for point, weight in zip(points**power, weights, strict=True):
        gradients = token_gradients(capture, scaled(capture.tokens, float(point)))
        for modality, gradient in gradients.items():
            total[modality] += float(weight) * gradient
    relevance = {
        m: (total[m] * part.values).sum(-1) * part.content for m, part in capture.tokens.items()
    }
    missed = int((completeness_error(capture, relevance) > TOLERANCE).sum())
    if missed:
        print(
            f"integrated_gradients: the maps of {missed} of {len(capture.sample_ids)} samples miss "
            f"the change of the logit by more than {TOLERANCE:.0%} at {steps} steps; take more"
        )
    return relevance


def scaled(tokens, factor):
    """{modality: values (B, N, D)}, those of content tokens times a factor."""
    return {
        m: torch.where(part.content[..., None], factor * part.values, part.values)
        for m, part in tokens.items()
    }


@torch.no_grad()
def completeness_error(capture, relevance):
    """By how much (B,) the maps' sums miss the change of the logit, as a share of that change.

    The change is that from content tokens of zeros to the tokens as they are; 0 where there are
    none.
    """
    zeros = scaled(capture.tokens, 0.0)
    baseline = {m: replace(part, values=zeros[m]) for m, part in capture.tokens.items()}
    change = capture.score(capture.tokens) - capture.score(baseline)
    error = (sum(values.sum(1) for values in relevance.values()) - change).abs()
    return torch.where(error == 0, 0, error / change.abs())


def token_gradients(capture, values):
    """{modality: ds/dvalues (B, N, D)}, with `values` in place of those of the tokens."""
    with torch.enable_grad():
        values = {m: part.detach().requires_grad_() for m, part in values.items()}
        tokens = {m: replace(part, values=values[m]) for m, part in capture.tokens.items()}
        score = capture.score(tokens).sum()
        gradients = torch.autograd.grad(score, list(values.values()), materialize_grads=True)
    return dict(zip(values, gradients, strict=True))
