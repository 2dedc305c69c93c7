"""Training: batches, objective, schedule, and exact resume after a kill."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from mmlens.datasets import DATASETS
from mmlens.datasets.generated import generate
from mmlens.datasets.samples import build_samples
from mmlens.datasets.vocabulary import train_tokenizer
from mmlens.models import build_model
from mmlens.models.inputs import EncodedSamples, own_inputs
from mmlens.training import loop
from mmlens.training.predict import predict, prediction_table

SETTINGS = {
    "epochs": 3,
    "batch_size": 16,
    "lr": 1e-3,
    "warmup": 0.1,
    "weight_decay": 0.05,
    "clip": 1.0,
    "accumulate": 1,
    "schedule": "cosine",
    "precision": "fp32",
    "select": "auroc",
    "patience": None,
    "loss": {"kind": "cross_entropy", "gamma": 2.0, "alpha": None, "smoothing": 0.0},
    "masked_words": {"weight": 1.0, "probability": 0.4, "label": 0},
}
SIZE = {"width": 16, "heads": 2, "image_size": 96}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("generated")
    quads = {"train": 12, "val": 4, "test": 4}
    generate(root, quads=quads)
    samples, _, _ = build_samples(DATASETS.get("generated")({"root": str(root), "quads": quads}))
    tokenizer = train_tokenizer(samples["text"], samples["text"])
    tokenizer.save(str(root / "tokenizer.json"))
    return EncodedSamples(samples, own_inputs(root / "tokenizer.json", 96))


def new_model(data, name="vilt_scratch"):
    torch.manual_seed(0)
    return build_model(name, SIZE, data)


def test_quads_stay_together_and_order_changes_per_epoch(data):
    rows = data.split("train")
    orders = [
        loop.shuffle(data.samples, rows, torch.Generator().manual_seed(epoch)) for epoch in (0, 1)
    ]
    for order in orders:
        assert sorted(order.tolist()) == rows.tolist()
        quads = data.samples["quad_id"].iloc[order.numpy()].to_numpy().reshape(-1, 4)
        assert (quads == quads[:, :1]).all()
    assert orders[0].tolist() != orders[1].tolist()


def test_training_lowers_the_loss_and_keeps_the_best_epoch(data, tmp_path):
    model = new_model(data)
    history = loop.train(
        model, data, SETTINGS, seed=0, device="cpu", state_path=tmp_path / "state.pt"
    )
    assert history["epoch"].tolist() == [1, 2, 3]
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    assert loop.validate(model, data, "cpu")["val_auroc"] == history["val_auroc"].max()


def new_model_with_dropout(data):
    model = new_model(data)
    model.final_norm = nn.Sequential(model.final_norm, nn.Dropout(0.1))
    return model


def test_resumed_training_ends_in_the_same_weights(data, tmp_path, monkeypatch):
    whole = new_model_with_dropout(data)
    loop.train(whole, data, SETTINGS, seed=3, device="cpu", state_path=tmp_path / "whole.pt")

    class KilledError(Exception):
        pass

    train_epoch, calls = loop.train_epoch, []

    def killed_in_second_epoch(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KilledError
        return train_epoch(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_epoch", killed_in_second_epoch)
        with pytest.raises(KilledError):
            loop.train(
                new_model_with_dropout(data), data, SETTINGS, seed=3, device="cpu",
                state_path=tmp_path / "part.pt",
            )  # fmt: skip
    resumed = new_model_with_dropout(data)
    with torch.no_grad():  # whatever it starts from
        for parameter in resumed.parameters():
            parameter.zero_()
    loop.train(resumed, data, SETTINGS, seed=3, device="cpu", state_path=tmp_path / "part.pt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_masked_words_need_chosen_samples(data):
    model = new_model(data)
    batch = data.batch(torch.arange(8))
    tokens = model.embed(batch)
    generator = torch.Generator().manual_seed(0)
    none = loop.masked_word_loss(
        model, batch, tokens, torch.zeros(8, dtype=torch.bool), 0.5, generator
    )
    assert none == 0
    some = loop.masked_word_loss(
        model, batch, tokens, torch.ones(8, dtype=torch.bool), 0.5, generator
    )
    assert some.item() == pytest.approx(np.log(data.vocabulary_size), rel=1)
    assert not (batch.input_ids == 4).any()  # the batch itself is not masked


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_learning_rate_rises_then_falls_to_zero(schedule):
    factors = [loop.rate_factor(step, 100, 10, schedule) for step in range(101)]
    assert factors[9] == max(factors) == 1
    assert factors[0] == 0.1
    assert factors[100] == pytest.approx(0, abs=1e-12)
    assert factors[:10] == sorted(factors[:10])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[55] == pytest.approx(0.5)


def test_warmup_is_a_share_or_a_number_of_steps():
    assert [loop.warmup_steps(w, 200) for w in (0, 0.05, 0.5, 1, 30, 199)] == [
        1,
        10,
        100,
        1,
        30,
        199,
    ]
    for longer in (200, 2000):
        with pytest.raises(ValueError, match=rf"{longer} of 200 steps.*expected fewer"):
            loop.warmup_steps(longer, 200)


def test_accumulated_batches_step_as_one_large_batch(data):
    """Without masked words, whose chance would differ, the text-only model sees the same."""
    rows, weights = data.split("train")[:40], []
    for size, every in ((40, 1), (8, 5), (8, 100)):
        model = new_model(data, "text_only")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
        settings = {**SETTINGS, "batch_size": size, "accumulate": every}
        generator = torch.Generator().manual_seed(0)
        loop.train_epoch(model, data, rows, optimizer, schedule, settings, generator, "cpu")
        assert schedule.last_epoch == 1
        weights.append(model.head.weight)
    for other in weights[1:]:
        assert torch.allclose(other, weights[0], atol=1e-6)


def test_a_last_group_with_fewer_batches_is_averaged_over_them(data):
    rows, weights = data.split("train")[:24], []
    for size, every in ((16, 1), (8, 2)):
        model = new_model(data, "text_only")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
        settings = {**SETTINGS, "batch_size": size, "accumulate": every}
        generator = torch.Generator().manual_seed(0)
        loop.train_epoch(model, data, rows, optimizer, schedule, settings, generator, "cpu")
        assert schedule.last_epoch == 2
        weights.append(model.head.weight)
    assert torch.allclose(weights[1], weights[0], atol=1e-6)


def test_a_loss_that_is_no_number_names_samples_and_rate(data, tmp_path):
    model = new_model(data)
    with torch.no_grad():
        model.head.bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"loss is nan at learning rate .*samples 0\d+,"):
        loop.train(model, data, SETTINGS, seed=0, device="cpu", state_path=tmp_path / "state.pt")


def test_patience_ends_training_and_selection_follows_its_metric(data, tmp_path):
    settings = {**SETTINGS, "epochs": 6, "lr": 1e-9, "patience": 2, "select": "accuracy"}
    model = new_model(data, "text_only")  # at chance for ever: the first epoch stays the best
    history = loop.train(
        model, data, settings, seed=0, device="cpu", state_path=tmp_path / "state.pt"
    )
    assert history["epoch"].tolist() == [1, 2, 3]
    record = {"val_loss": 0.2, "val_auroc": 0.7, "val_accuracy": 0.6}
    scores = {select: loop.selection_score(record, select) for select in ("loss", "auroc")}
    assert scores == {"loss": -0.2, "auroc": 0.7}


def test_bfloat16_trains_close_to_full_precision(data, tmp_path):
    losses = {}
    for precision in ("fp32", "bf16"):
        settings = {**SETTINGS, "precision": precision, "epochs": 1}
        path = tmp_path / f"{precision}.pt"
        history = loop.train(new_model(data), data, settings, seed=0, device="cpu", state_path=path)
        losses[precision] = history["train_loss"].iloc[0]
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)


@pytest.mark.parametrize("name", ["text_only", "image_only", "vilt_scratch", "blip_scratch"])
def test_identical_inputs_get_identical_logits(data, name):
    model = new_model(data, name)
    rows = torch.arange(len(data))
    logits = predict(model, data, rows, "cpu", batch_size=7)
    frame = pd.DataFrame({"logit": logits.numpy()})
    frame["seen"] = data.samples["text"] if name == "text_only" else data.samples["image"]
    if name in ("text_only", "image_only"):
        assert (frame.groupby("seen")["logit"].nunique() == 1).all()
    direct = model.eval()(model.embed(data.batch(rows)))
    assert torch.allclose(logits, direct.detach(), atol=1e-5)


def test_prediction_table_has_every_sample_of_its_splits(data):
    table = prediction_table(
        lambda rows: predict(new_model(data), data, rows, "cpu"), data, ("val", "test"), 0.5
    )
    chosen = data.samples[data.samples["split"].isin(["val", "test"])]
    assert table["sample_id"].tolist() == chosen["sample_id"].tolist()
    assert ((table["probability"] >= 0.5) == (table["prediction"] == 1)).all()
