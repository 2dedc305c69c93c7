"""Training: batches, objective, selection, and exact resume after an exception."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from training_data import new_model, settings, write_data

from mmlens.table import DataError
from mmlens.training import loop
from mmlens.training.batches import epoch_batches, training_rows
from mmlens.training.objective import batch_loss, check_objective, masked_word_loss
from mmlens.training.optimisation import build_average
from mmlens.training.predict import predict, prediction_table
from mmlens.training.selection import selection_score, validate
from mmlens.training.state import TrainingState, remove_state

SETTINGS = settings()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("generated"))


def train(model, data, settings, path, seed=0):
    return loop.train(model, data, settings, seed=seed, device="cpu", state_path=path)


def one_epoch(model, data, rows, settings):
    """Plain gradient descent over `rows`; the number of steps."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    state = TrainingState(None, model, optimizer, schedule)
    generator = torch.Generator().manual_seed(0)
    batches = epoch_batches(data, rows, settings, generator)
    loop.train_epoch(state, data, batches, settings, generator, "cpu", lambda: False)
    return schedule.last_epoch


def test_training_lowers_the_loss_and_keeps_the_best_epoch(data, tmp_path):
    model = new_model(data)
    history = train(model, data, SETTINGS, tmp_path / "state.pt")
    assert history["epoch"].tolist() == [1, 2, 3]
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    assert validate(model, data, SETTINGS, "cpu")["val_auroc"] == history["val_auroc"].max()
    assert history.attrs["trainable"] == sum(p.numel() for p in model.parameters())


def test_resumed_training_ends_in_the_same_weights(data, tmp_path, monkeypatch):
    whole = new_model(data, dropout=0.1)
    train(whole, data, SETTINGS, tmp_path / "whole.pt", seed=3)

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
            train(new_model(data, dropout=0.1), data, SETTINGS, tmp_path / "part.pt", seed=3)
    resumed = new_model(data, dropout=0.1)
    with torch.no_grad():  # whatever it starts from
        for parameter in resumed.parameters():
            parameter.zero_()
    train(resumed, data, SETTINGS, tmp_path / "part.pt", seed=3)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_epochs_are_told_when_they_are_saved_and_again_after_an_interruption(data, tmp_path):
    told, path = [], tmp_path / "state.pt"
    common = {"seed": 0, "device": "cpu", "state_path": path}

    def killed_after_the_second(record):
        assert torch.load(path, weights_only=True)["history"][-1] == record
        told.append(record["epoch"])
        if len(told) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.train(new_model(data), data, SETTINGS, on_epoch=killed_after_the_second, **common)
    records = []
    history = loop.train(new_model(data), data, SETTINGS, on_epoch=records.append, **common)
    assert told == [1, 2]
    assert records == history.to_dict("records")
    assert [record["epoch"] for record in records] == [1, 2, 3]


def test_files_of_the_state_are_one_state_and_one_best_epoch(data, tmp_path):
    train(new_model(data), data, SETTINGS, tmp_path / "state.pt")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 2
    assert names[0] == "state.pt"
    assert names[1].startswith("state.pt.best")
    (tmp_path / ".state.pt.best1.77.tmp").write_bytes(b"of a killed process")
    (tmp_path / "state2.pt").write_bytes(b"of another training")
    remove_state(tmp_path / "state.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["state2.pt"]


def test_the_number_of_updates_counts_in_place_of_epochs(data, tmp_path):
    model, by_epochs = new_model(data), new_model(data)
    history = train(model, data, settings(epochs=1, updates=4), tmp_path / "updates.pt")
    assert history["epoch"].tolist() == [1, 2]  # 48 samples are 3 steps
    state = torch.load(tmp_path / "updates.pt", weights_only=True)
    assert state["schedule"]["last_epoch"] == 4
    train(by_epochs, data, settings(epochs=2), tmp_path / "epochs.pt")
    # The rate falls to 0 over 4 steps instead of 6.
    assert not torch.equal(model.head.weight, by_epochs.head.weight)


def test_averaged_weights_are_validated_and_kept(data, tmp_path):
    """With one step per epoch the average after the second is known from those of both epochs."""
    one_step = {"batch_size": 48, "select": "loss", "schedule": "constant", "warmup": 0}
    weights = []
    for epochs in (1, 2):
        model = new_model(data)
        path = tmp_path / f"{epochs}.pt"
        train(model, data, settings(**one_step, epochs=epochs), path)
        weights.append(torch.load(path, weights_only=True)["model"]["head.weight"])
    averaged = new_model(data)
    history = train(averaged, data, settings(**one_step, epochs=2, ema=0.75), tmp_path / "ema.pt")
    saved = torch.load(tmp_path / "ema.pt", weights_only=True)
    assert torch.equal(saved["model"]["head.weight"], weights[1])
    expected = 0.75 * weights[0] + 0.25 * weights[1]
    torch.testing.assert_close(saved["average"]["module.head.weight"], expected)
    kept = {1: weights[0], 2: expected}[saved["best"]["epoch"]]
    torch.testing.assert_close(averaged.head.weight.data, kept)
    found = validate(averaged, data, SETTINGS, "cpu")["val_loss"]
    assert found == pytest.approx(history["val_loss"].min(), rel=1e-6)


def test_statistics_of_batch_norms_are_not_averaged(data):
    model = new_model(data)
    average = build_average(model, 0.9)
    model.train()
    for _ in range(2):
        model(model.embed(data.batch(torch.arange(8))))
        average.update_parameters(model)
    for found, expected in zip(average.module.buffers(), model.buffers(), strict=True):
        assert torch.equal(found, expected)


def hidden_words(data, batch, chosen, probability=0.5):
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(batch.input_ids.shape, generator=generator) < probability
    return torch.full((len(batch.input_ids),), chosen), drawn, data.spec.mask_id


def test_masked_words_need_chosen_samples(data):
    model = new_model(data)
    batch = data.batch(torch.arange(8))
    tokens = model.embed(batch)
    assert masked_word_loss(model, batch, tokens, *hidden_words(data, batch, False)) == 0
    some = masked_word_loss(model, batch, tokens, *hidden_words(data, batch, True))
    assert some.item() == pytest.approx(np.log(data.vocabulary_size), rel=1)
    assert not (batch.input_ids == data.spec.mask_id).any()  # the batch itself is not masked


def test_padding_of_a_batch_changes_no_masked_word(data):
    """The chances are drawn for the longest text, so that trimming only rounds differently."""
    model, rows, losses = new_model(data).eval(), data.split("train")[:8], []
    own = data.lengths.clone()
    for padded in (False, True):
        data.lengths[:] = data.input_ids.shape[1] if padded else own
        generator = torch.Generator().manual_seed(0)
        losses.append(batch_loss(model, data, rows, SETTINGS, generator, "cpu").item())
    data.lengths[:] = own
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_accumulated_batches_step_as_one_large_batch(data):
    """Without masked words, whose chance would differ, the text-only model sees the same."""
    rows, weights = data.split("train")[:40], []
    for size, every in ((40, 1), (8, 5), (8, 100)):
        model = new_model(data, "text_only")
        changed = {**SETTINGS, "batch_size": size, "accumulate": every}
        assert one_epoch(model, data, rows, changed) == 1
        weights.append(model.head.weight)
    for other in weights[1:]:
        assert torch.allclose(other, weights[0], atol=1e-6)


def test_a_last_group_with_fewer_batches_is_averaged_over_them(data):
    rows, weights = data.split("train")[:24], []
    for size, every in ((16, 1), (8, 2)):
        model = new_model(data, "text_only")
        changed = {**SETTINGS, "batch_size": size, "accumulate": every}
        assert one_epoch(model, data, rows, changed) == 2
        weights.append(model.head.weight)
    assert torch.allclose(weights[1], weights[0], atol=1e-6)


def test_clipping_bounds_the_gradient_unless_it_is_null(data):
    rows, moves = data.split("train")[:16], []
    for clip in (1e-3, None):
        model = new_model(data, "text_only")
        before = torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()
        one_epoch(model, data, rows, settings(clip=clip))
        after = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
        moves.append((after - before).norm().item() / 0.1)
    assert moves[0] == pytest.approx(1e-3, rel=1e-2)
    assert moves[1] > 0.1


def test_a_loss_that_is_no_number_names_samples_and_rate(data, tmp_path):
    model = new_model(data)
    with torch.no_grad():
        model.head.bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"loss is nan at learning rate .*samples 0\d+,"):
        train(model, data, SETTINGS, tmp_path / "state.pt")


def test_patience_ends_training_and_selection_follows_its_metric(data, tmp_path):
    changed = settings(epochs=6, lr=1e-9, patience=2, select="accuracy")
    model = new_model(data, "text_only")  # at chance for ever: the first epoch stays the best
    history = train(model, data, changed, tmp_path / "state.pt")
    assert history["epoch"].tolist() == [1, 2, 3]
    record = {"val_loss": 0.2, "val_auroc": 0.7, "val_accuracy": 0.6}
    scores = {select: selection_score(record, select) for select in ("loss", "auroc")}
    assert scores == {"loss": -0.2, "auroc": 0.7}


def test_bfloat16_trains_close_to_full_precision(data, tmp_path):
    losses = {}
    for precision in ("fp32", "bf16"):
        changed = settings(precision=precision, epochs=1)
        history = train(new_model(data), data, changed, tmp_path / f"{precision}.pt")
        losses[precision] = history["train_loss"].iloc[0]
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)


def test_what_model_and_labels_do_not_allow_is_named_at_once(data):
    asked = settings(objective="contrastive", select="auroc")
    with pytest.raises(DataError) as caught:
        check_objective(new_model(data), data, asked)
    assert len(caught.value.problems) == 2
    assert "training.objective: found contrastive, but vilt_scratch has no" in str(caught.value)
    assert "training.select: found auroc" in str(caught.value)
    with pytest.raises(DataError, match=r"select: found recall.*accuracy or loss or auroc"):
        check_objective(new_model(data), data, settings(select="recall"))


def test_an_objective_that_does_not_train_what_is_asked_is_an_error(data):
    asked = settings(objective="contrastive", select="recall")
    with pytest.raises(DataError, match="does not train what clip_scratch tells labels by"):
        check_objective(new_model(data, "clip_scratch"), data, asked)
    classes = copy.copy(data)
    classes.samples = data.samples.assign(targets="[0]")
    with pytest.raises(DataError, match="found classification, but clip_scratch is to tell"):
        check_objective(new_model(data, "clip_scratch"), classes, settings())
    check_objective(new_model(data, "clip_scratch"), classes, asked)
    classes.samples = classes.samples.assign(split="test")
    with pytest.raises(DataError, match=r"split train: no samples.*\n.*split val: no samples"):
        check_objective(new_model(data, "clip_scratch"), classes, asked)
    with pytest.raises(DataError, match="per_class: found 2, but the data set has classes"):
        training_rows(classes, 2)


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


def test_a_part_of_the_training_samples_is_balanced_and_grows_with_its_number(data):
    assert torch.equal(training_rows(data, None), data.split("train"))
    few, more = training_rows(data, 3), training_rows(data, 5)
    assert (len(few), data.labels[few].sum()) == (6, 3)
    assert data.labels[more].sum() == 5
    assert set(few.tolist()) < set(more.tolist()) < set(data.split("train").tolist())
    with pytest.raises(
        DataError, match=r"per_class: found 999, but the split train has \d+ samples"
    ):
        training_rows(data, 999)
