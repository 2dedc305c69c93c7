"""Oracle: the gradient methods give the numbers of captum."""

from dataclasses import replace

import torch
from captum import attr
from test_explanation import COUNT, captured, close, make_batch, make_model

from mmlens.explanation import METHODS, input_gradients
from mmlens.models.base import Tokens

torch.set_num_threads(1)


def oracle(name="vilt_scratch"):
    """A capture, and forward(words, patches) as captum calls it."""
    seen = captured(make_model(name))

    def forward(*values):
        repeated = {}
        for (modality, part), own in zip(seen.tokens.items(), values, strict=True):
            times = len(own) // COUNT
            repeated[modality] = Tokens(
                own, part.valid.repeat(times, 1), part.content.repeat(times, 1)
            )
        return seen.score(repeated, torch.arange(len(values[0])) % COUNT)

    return seen, forward


def inputs(seen):
    return tuple(part.values.clone().requires_grad_() for part in seen.tokens.values())


def assert_summed(seen, maps, attributed, *tolerance):
    for modality, values in zip(seen.tokens, attributed, strict=True):
        close(maps[modality], values.sum(-1) * seen.layout.content[modality], *tolerance)


def test_input_x_gradient_is_that_of_captum():
    seen, forward = oracle()
    attributed = attr.InputXGradient(forward).attribute(inputs(seen))
    assert_summed(seen, METHODS.get("input_x_gradient")(seen), attributed)


def test_integrated_gradients_are_those_of_captum():
    seen, forward = oracle("visual_bert")
    zeros = tuple(input_gradients.scaled(seen.tokens, 0.0).values())
    attributed = attr.IntegratedGradients(forward).attribute(
        inputs(seen), baselines=zeros, n_steps=20, method="gausslegendre"
    )
    maps = METHODS.get("integrated_gradients")(seen, steps=20, power=1)
    assert_summed(seen, maps, attributed, 1e-5, 1e-6)  # whose weights are in single precision


def test_saliency_is_the_norm_of_captums_gradient():
    seen, forward = oracle("clip_scratch")
    model, batch = make_model("clip_scratch"), make_batch()
    gradients = attr.Saliency(forward).attribute(inputs(seen), abs=False)
    found = METHODS.get("saliency")(seen)
    close(found["text"], gradients[0].norm(dim=-1))

    def of_pixels(pixels):
        return seen.score(model.embed(replace(batch, image=pixels)))

    pixels = batch.image.clone().requires_grad_()
    gradient = attr.Saliency(of_pixels).attribute(pixels, abs=False)
    patches = gradient.norm(dim=1).unfold(1, 16, 16).unfold(2, 16, 16).mean((3, 4)).flatten(1)
    close(found["image"][:, 1:], patches)
