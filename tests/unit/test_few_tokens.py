"""Attention between few tokens and many is the same whichever side passes the linear layers."""

import pytest
import torch
from torch import nn

from mmlens.models import MODELS
from mmlens.models.base import Model
from mmlens.models.bert_layers import Layer
from mmlens.models.few_tokens import few_keys, few_queries, is_usable, is_worth_it
from mmlens.models.inputs import Batch
from mmlens.models.meter_config import LayerConfig

WIDTH, HEADS, MANY, FEW = 24, 2, 40, 2


@pytest.fixture
def block():
    torch.manual_seed(0)
    layer = Layer(WIDTH, HEADS, 20, LayerConfig(1e-5, 0.1, 0.1), cross=True)
    return layer.crossattention.double().eval()


def tokens(count, padding=0):
    generator = torch.Generator().manual_seed(count)
    values = torch.randn(3, count, WIDTH, generator=generator, dtype=torch.float64)
    valid = torch.ones(3, count, dtype=torch.bool)
    valid[1, count - padding :] = False
    return values, valid


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_few_tokens_may_pass_the_layers_of_the_many(block):
    attention, dense = block["self"], block["output"].dense
    (few, shown), (many, seen) = tokens(FEW, 1), tokens(MANY, 7)
    with torch.no_grad():
        close(few_queries(attention, few, seen, many), attention(few, seen, many))
        found = few_keys(attention, dense, many, shown, few)
        close(found, dense(attention(many, shown, few)))


@pytest.mark.parametrize("sizes", [(FEW, MANY), (MANY, FEW), (MANY, MANY)])
def test_a_block_gives_the_same_with_gradients_and_without(block, sizes, monkeypatch):
    (x, _), (context, valid) = (tokens(size, 1) for size in sizes)
    used = []
    for function in (few_queries, few_keys):
        name = f"mmlens.models.bert_layers.{function.__name__}"
        monkeypatch.setattr(name, lambda *a, f=function: (used.append(f.__name__), f(*a))[1])
    expected = block(x, valid, context)
    assert not used
    with torch.no_grad():
        close(block(x, valid, context), expected.detach())
    assert used == {(FEW, MANY): ["few_queries"], (MANY, FEW): ["few_keys"]}.get(sizes, [])


def test_only_plain_layers_at_rest_are_left_out(block):
    attention, dense = block["self"], block["output"].dense
    with torch.no_grad():
        assert is_usable(attention, dense)
        attention.eager = True
        assert not is_usable(attention, dense)
        attention.eager = False
        assert not is_usable(attention, nn.Sequential(dense))
        attention.key = type("Adapted", (nn.Linear,), {})(WIDTH, WIDTH)
        assert not is_usable(attention, dense)
    assert not is_usable(attention.train(), dense)
    assert is_worth_it(12, 197, 768, 12)
    assert not is_worth_it(12, 11, 768, 12)


@pytest.mark.parametrize("image_tokens", ["patches", "encoded"])
@pytest.mark.parametrize("modality", ["text", "image"])
@torch.no_grad()
def test_meter_without_some_tokens_is_meter_on_the_others(image_tokens, modality):
    """Whatever is computed once: the generic removal computes everything anew."""
    torch.manual_seed(0)
    sizes = {"num_top_layer": 3}
    options = {"width": 12, "heads": 3, "image_size": 96, "sizes": sizes}
    model = MODELS.get("meter")(30, 12, image_tokens=image_tokens, **options)
    for parameter in model.parameters():
        parameter += 0.2 * torch.randn_like(parameter)
    model.double().eval()
    ids = torch.randint(5, 30, (3, 6))
    valid = torch.ones_like(ids, dtype=torch.bool)
    valid[0, 4:] = False
    pixels = torch.randn(3, 3, 96, 96, dtype=torch.float64)
    embedded = model.embed(Batch(ids, valid, valid, pixels, torch.arange(3)))
    rows = torch.tensor([2, 0, 1, 1])
    index = torch.tensor([[0, 1, 3], [0, 2, 3], [0, 1, 2], [0, 3, 5 if modality == "image" else 4]])
    found = model.removal(embedded, modality)(rows, index)
    expected = Model.removal(model, embedded, modality)(rows, index)
    assert expected.std() > 1e-3
    close(found, expected)
