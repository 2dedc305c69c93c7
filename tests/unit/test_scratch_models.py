"""What training and perturbation leave out of the from-scratch models changes no result."""

from dataclasses import replace

import pytest
import torch
from training_data import new_model, settings, write_data

from mmlens.training.losses import classification_loss
from mmlens.training.objective import batch_loss
from mmlens.training.predict import predict

MODELS = ["text_only", "image_only", "clip_scratch", "vilt_scratch", "blip_scratch"]
MODELS += ["vilbert_scratch"]
SETTINGS = settings(masked_words={"label": 0, "weight": 2.0})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def plain_loss(model, data, index):
    """The loss with every sample's own image, every layer of every token, and nothing kept."""
    batch, labels = data.batch(index), data.targets(index)
    loss = classification_loss(model(model.embed(batch)), labels, SETTINGS["loss"])
    if not model.masked_words:
        return loss
    generator = torch.Generator().manual_seed(5)
    drawn = torch.rand((len(index), data.input_ids.shape[1]), generator=generator)
    hidden = drawn[:, : batch.input_ids.shape[1]] < SETTINGS["masked_words"]["probability"]
    hidden = hidden & batch.text_content & (labels == 0)[:, None]
    masked = replace(batch, input_ids=batch.input_ids.masked_fill(hidden, data.spec.mask_id))
    tokens = model.embed(masked)
    scores = model.word_logits(model.encode(tokens), tokens)[hidden]
    words = torch.nn.functional.cross_entropy(scores, batch.input_ids[hidden])
    return loss + SETTINGS["masked_words"]["weight"] * words


@pytest.mark.parametrize("name", MODELS)
def test_loss_and_gradients_are_those_of_the_plain_computation(data, name):
    model, index = new_model(data, name).eval(), data.split("train")[:15]
    generator = torch.Generator().manual_seed(5)
    loss = batch_loss(model, data, index, SETTINGS, generator, "cpu")
    plain = plain_loss(model, data, index)
    torch.testing.assert_close(loss, plain)
    found, expected = gradients(model, loss), gradients(model, plain)
    assert found.keys() == expected.keys()
    for parameter, gradient in expected.items():
        torch.testing.assert_close(found[parameter], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_forward(data, name):
    model, rows = new_model(data, name).eval(), data.split("val")
    with torch.no_grad():
        tokens = model.embed(data.batch(rows))
        torch.testing.assert_close(model.logits(tokens), model(tokens))
        torch.testing.assert_close(predict(model, data, rows, "cpu"), model(tokens))


def sizes_of(module):
    """List that gets the shape (B, N) of whatever goes through a module."""
    sizes = []
    module.register_forward_hook(lambda _, inputs, __: sizes.append(tuple(inputs[0].shape[:2])))
    return sizes


def test_an_image_of_several_samples_is_computed_once(data):
    index = data.split("train")[:8]  # two quads of two images each
    model = new_model(data, "blip_scratch")
    images, words = sizes_of(model.image_blocks[0].feed), sizes_of(model.text_blocks[0].feed)
    batch_loss(model, data, index, SETTINGS, torch.Generator().manual_seed(5), "cpu")
    assert images == [(4, 37)]
    assert [count for count, _ in words] == [8, 4]  # of the classes, and of the masked words


def test_the_last_layer_is_computed_where_it_is_read(data):
    index = data.split("train")[:8]
    model = new_model(data, "vilt_scratch")
    first, last = sizes_of(model.blocks[0].feed), sizes_of(model.blocks[-1].feed)
    batch_loss(model, data, index, SETTINGS, torch.Generator().manual_seed(5), "cpu")
    words = int(data.lengths[index].max())
    assert first == [(8, words + 37), (4, words + 37)]
    assert last == [(8, 1), (4, words)]
