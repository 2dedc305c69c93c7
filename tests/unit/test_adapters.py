"""Low-rank adapters: what they train, and that merged they are plain weights."""

import pytest
import torch
from training_data import new_model, settings, write_data

from mmlens.table import DataError
from mmlens.training import loop
from mmlens.training.adapters import add_adapters, merge_adapters
from mmlens.weights import load_weights, save_weights

LORA = {"rank": 2, "alpha": 4, "dropout": 0.0, "targets": ["query", "value"], "whole": ["head"]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("generated"))


def logits(model, data):
    with torch.no_grad():
        return model.eval()(model.embed(data.batch(torch.arange(8))))


def test_adapters_change_nothing_at_first_and_merge_into_plain_weights(data, tmp_path):
    model = new_model(data)
    names, before = list(model.state_dict()), logits(model, data)
    adapters = add_adapters(model, LORA, seed=0)
    assert torch.equal(logits(model, data), before)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    adapted = logits(model, data)
    assert not torch.allclose(adapted, before, atol=1e-3)
    merge_adapters(adapters)
    assert list(model.state_dict()) == names
    torch.testing.assert_close(logits(model, data), adapted, atol=1e-5, rtol=1e-5)
    save_weights(tmp_path / "model.safetensors", model)
    plain = new_model(data)
    load_weights(tmp_path / "model.safetensors", plain)
    assert torch.equal(logits(plain, data), logits(model, data))


def test_a_merged_weight_is_w_plus_alpha_over_rank_b_a(data):
    model = new_model(data)
    start = model.blocks[1].attention.query.weight.detach().clone()
    adapters = add_adapters(model, LORA, seed=0)
    layer = model.blocks[1].attention.query
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    torch.nn.init.normal_(b)
    expected = start + 4 / 2 * (b @ a).detach()
    merge_adapters(adapters)
    torch.testing.assert_close(model.blocks[1].attention.query.weight.data, expected)


def test_training_moves_targets_and_whole_parts_alone(data, tmp_path):
    model = new_model(data)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    history = loop.train(
        model, data, settings(lora=LORA, select="loss"), seed=0, device="cpu",
        state_path=tmp_path / "state.pt",
    )  # fmt: skip
    moved = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    statistics = {n for n, _ in model.named_buffers()}  # of the stem's batch norms
    parts = [f"attention.{part}.weight" for part in LORA["targets"]]
    targets = {f"blocks.{number}.{part}" for number in range(4) for part in parts}
    assert moved - statistics == {*targets, "head.weight", "head.bias"}
    assert history.attrs["trainable"] == 8 * 2 * (16 + 16) + 17


def test_an_interrupted_training_of_adapters_ends_in_the_same_weights(data, tmp_path, monkeypatch):
    chosen = settings(lora={**LORA, "dropout": 0.1}, save_every=1, ema=0.5)
    models = [new_model(data) for _ in range(3)]

    def train(model, name):
        path = tmp_path / name
        return loop.train(model, data, chosen, seed=0, device="cpu", state_path=path)

    train(models[0], "whole.pt")
    step, calls = loop.step, []

    def stopped(*arguments):
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "step", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(models[1], "part.pt")
    train(models[2], "part.pt")
    for name, value in models[0].state_dict().items():
        assert torch.equal(value, models[2].state_dict()[name]), name


def test_names_that_the_model_does_not_have_are_errors(data):
    with pytest.raises(DataError) as caught:
        add_adapters(new_model(data), {**LORA, "targets": ["query", "uery", "q_proj"]}, seed=0)
    assert len(caught.value.problems) == 2
    assert "training.lora.targets: found 'uery'" in caught.value.problems[0]
    assert "query" in caught.value.problems[0].split("such as")[1]
    with pytest.raises(DataError, match=r"training\.lora\.whole: found 'classifier'"):
        add_adapters(new_model(data), {**LORA, "whole": ["classifier"]}, seed=0)
