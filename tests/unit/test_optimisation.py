"""The optimiser: groups, learning rates per part and over time, gradients of recomputed layers."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from training_data import new_model, settings, write_data

from mmlens.models import MODELS
from mmlens.models.inputs import Batch
from mmlens.models.layers import RecomputedLayer
from mmlens.table import DataError
from mmlens.training.optimisation import (
    OPTIMIZERS,
    build_average,
    build_optimizer,
    build_schedule,
    parameter_groups,
    rate_factor,
    warmup_steps,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("generated"))


@pytest.fixture
def model():
    torch.manual_seed(0)
    parts = {"trunk": nn.Linear(3, 4), "trunk_norm": nn.LayerNorm(4), "head": nn.Linear(4, 1)}
    return nn.ModuleDict(parts)


def groups_of(model, **keys):
    """{name: (learning rate, weight decay)} of all parameters in the groups."""
    names = {id(p): name for name, p in model.named_parameters()}
    groups = parameter_groups(model, settings(lr=0.1, weight_decay=0.5, **keys))
    return {names[id(p)]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}


def test_only_matrices_decay(model):
    found = groups_of(model)
    assert found == {name: (0.1, 0.5 if p.ndim > 1 else 0) for name, p in model.named_parameters()}


def test_the_longest_prefix_gives_the_factor_of_the_rate(model):
    found = groups_of(model, lr_factors={"trunk": 5, "trunk_norm": 0.1, "head.weight": 50})
    rates = {name: rate for name, (rate, _) in found.items()}
    assert rates == pytest.approx(
        {
            "trunk.weight": 0.5, "trunk.bias": 0.5, "trunk_norm.weight": 0.01,
            "trunk_norm.bias": 0.01, "head.weight": 5.0, "head.bias": 0.1,
        }
    )  # fmt: skip
    assert found["head.weight"][1] == 0.5


def test_a_prefix_that_nothing_has_is_an_error(model):
    with pytest.raises(DataError) as caught:
        groups_of(model, lr_factors={"trunk": 5, "heads": 2, "tail": 3})
    assert len(caught.value.problems) == 2
    assert "training.lr_factors: found 'heads'" in caught.value.problems[0]
    assert "head.weight" in caught.value.problems[0]


def test_frozen_parameters_are_in_no_group(model):
    model["trunk"].requires_grad_(False)
    assert set(groups_of(model)) == {
        "trunk_norm.weight", "trunk_norm.bias", "head.weight", "head.bias",
    }  # fmt: skip
    with pytest.raises(DataError, match=r"found 'trunk\."):
        groups_of(model, lr_factors={"trunk.": 2})


def test_the_stem_has_a_factor_of_its_own_unless_a_prefix_says_another(data):
    model = new_model(data, "vilt_scratch")
    stem = {name for name in dict(model.named_parameters()) if name.startswith("image.stem.")}
    assert 0 < len(stem) == len(list(model.image_stem.parameters()))

    def at(rate, **keys):
        found = groups_of(model, **keys)
        return {name for name, (lr, _) in found.items() if lr == pytest.approx(rate)}

    assert at(0.01, stem_lr_factor=0.1) == stem
    assert at(0.3, stem_lr_factor=0.1, lr_factors={"image": 3}) == {
        "image.class_token",
        "image.positions",
    }
    assert at(0.3, stem_lr_factor=0.1, lr_factors={"image.stem": 3}) == stem
    assert at(0.01, stem_lr_factor=0.1, lr_factors={"image.stem": 3}) == set()


def test_a_model_without_a_stem_knows_no_factor_of_it(data):
    model = new_model(data, "text_only")
    rates = {rate for rate, _ in groups_of(model, stem_lr_factor=0.1).values()}
    assert rates == {0.1}


def test_a_part_with_twice_the_rate_moves_twice_as_far(model):
    optimizer = build_optimizer(
        model, settings(lr=0.1, weight_decay=0, eps=1e-30, lr_factors={"head": 2})
    )
    schedule = build_schedule(optimizer, 10, settings(warmup=2))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():  # the first of two steps of warm-up
        moved = (before[name] - parameter.detach()).mean().item()
        assert moved == pytest.approx(0.1 if name.startswith("head") else 0.05, rel=1e-4)
    assert schedule.get_last_lr()[0] == pytest.approx(0.05)


@pytest.mark.parametrize(("name", "kind"), list(OPTIMIZERS.items()))
def test_optimizers_are_pytorchs(model, name, kind):
    chosen = settings(optimizer=name, lr=0.1, betas=[0.8, 0.9], eps=1e-3, weight_decay=0.3)
    theirs = nn.ModuleDict({key: part for key, part in model.items() if key != "trunk_norm"})
    ours, weights = build_optimizer(theirs, chosen), []
    matrices = [p for p in theirs.parameters() if p.ndim > 1]
    start = [p.detach().clone() for p in matrices]
    plain = [p.clone().requires_grad_() for p in start]
    reference = kind(plain, lr=0.1, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.3)
    for step in range(3):
        for pair in zip(matrices, plain, strict=True):
            for parameter in pair:
                parameter.grad = torch.full_like(parameter, step - 0.5)
        ours.step()
        reference.step()
        weights.append([p.detach().clone() for p in matrices])
    for found, expected in zip(weights[-1], plain, strict=True):
        torch.testing.assert_close(found, expected.detach())


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_learning_rate_rises_then_falls_to_zero(schedule):
    factors = [rate_factor(step, 100, 10, schedule) for step in range(101)]
    assert factors[9] == max(factors) == 1
    assert factors[0] == 0.1
    assert factors[100] == pytest.approx(0, abs=1e-12)
    assert factors[:10] == sorted(factors[:10])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[55] == pytest.approx(0.5)


def test_a_constant_rate_stays_after_the_warm_up():
    factors = [rate_factor(step, 100, 10, "constant") for step in range(101)]
    assert factors[0] == 0.1
    assert set(factors[9:]) == {1.0}


def test_warmup_is_a_share_or_a_number_of_steps():
    found = [warmup_steps(w, 200) for w in (0, 0.05, 0.5, 1, 30, 199)]
    assert found == [1, 10, 100, 1, 30, 199]
    for longer in (200, 2000):
        with pytest.raises(ValueError, match=rf"{longer} of 200 steps.*expected fewer"):
            warmup_steps(longer, 200)


def test_average_follows_its_formula_after_the_first_step(model):
    average, expected = build_average(model, 0.9), None
    assert isinstance(average, AveragedModel)
    for step in range(4):
        with torch.no_grad():
            model["head"].weight.fill_(float(step + 1))
        average.update_parameters(model)
        expected = 1.0 if step == 0 else 0.9 * expected + 0.1 * (step + 1)
    torch.testing.assert_close(average.module["head"].weight.data, torch.full((1, 4), expected))
    assert build_average(model, None) is None


class FakeFeatures:
    """As much of a FeatureReader as a model of regions asks for when it is built."""

    grid, width = None, 6


def region_batch(data, rows):
    """A batch whose images are regions with random features."""
    generator = torch.Generator().manual_seed(0)
    batch = data.batch(rows)
    corners = torch.rand((len(rows), 5, 2), generator=generator) / 2
    return Batch(
        batch.input_ids, batch.text_valid, batch.text_content,
        image=torch.randn((len(rows), 5, 6), generator=generator),
        image_rows=torch.arange(len(rows)), boxes=torch.cat([corners, corners + 0.3], -1),
        image_valid=torch.ones((len(rows), 5), dtype=torch.bool),
    )  # fmt: skip


def gradients(model, batch):
    torch.manual_seed(1)  # of dropout
    model.train().zero_grad()
    model(model.embed(batch)).square().sum().backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ["vilt_scratch", "vilbert_scratch", "vilbert"])
def test_recomputed_layers_give_the_same_gradients(data, name):
    rows = data.split("train")[:8]
    if name == "vilbert":
        torch.manual_seed(0)
        sizes = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
        keys = {"width": 16, "heads": 2, "features": FakeFeatures(), "sizes": sizes}
        model = MODELS.get(name)(data.vocabulary_size, data.max_length, **keys)
        batch = region_batch(data, rows)
    else:
        model, batch = new_model(data, name), data.batch(rows)
    expected = gradients(model, batch)
    calls = []
    layer = next(m for m in model.modules() if isinstance(m, RecomputedLayer))
    layer.register_forward_pre_hook(lambda *_: calls.append(1))
    gradients(model, batch)
    assert len(calls) == 1
    model.checkpoint_gradients()
    found = gradients(model, batch)
    assert len(calls) == 3  # forward, and again on the way back
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_a_model_without_layers_that_can_be_recomputed_is_named(data):
    model = new_model(data, "text_only")
    model.blocks = nn.ModuleList()
    with pytest.raises(ValueError, match="gradient_checkpointing: text_only has no layers"):
        model.checkpoint_gradients()


def test_networks_of_transformers_recompute_by_their_own_switch(data):
    from transformers import BertConfig, BertModel

    config = BertConfig(
        hidden_size=16, num_attention_heads=2, num_hidden_layers=2, intermediate_size=16
    )
    model = new_model(data, "text_only")
    model.blocks, model.network = nn.ModuleList(), BertModel(config)
    ids = torch.arange(12).reshape(2, 6)
    kept = []
    for _ in range(2):
        torch.manual_seed(1)
        model.train().zero_grad()
        model.network(ids).last_hidden_state.square().sum().backward()
        kept.append([p.grad.clone() for p in model.network.parameters() if p.grad is not None])
        model.checkpoint_gradients()
    assert model.network.is_activation_checkpointing
    assert all(torch.equal(a, b) for a, b in zip(*kept, strict=True))
