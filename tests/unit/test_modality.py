"""What decisions owe to modalities: games whose Shapley values are known, and additive models."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from test_explanation import make_batch, make_model

from mmlens.metrics import auroc
from mmlens.models.base import Tokens
from mmlens.perturbation.modality import (
    additive_projection,
    coalition_values,
    emap,
    modality_share,
    shapley_values,
)
from mmlens.perturbation.sanity_table import tabulate_sanity
from mmlens.report.sanity import modality_table, sanity_table

torch.set_num_threads(1)

COUNT = 6
WORDS = torch.tensor([3.0, -1, 2, 0.5, -2, 1]).double()
PATCHES = torch.tensor([1.0, 2, -3, 4, 0.25, -1]).double()
IDS = [f"s{k}" for k in range(COUNT)]


def tokens_of(values):
    """Samples of a special token of value 1, one word or patch, and one of padding."""
    rows = torch.stack([torch.ones_like(values), values, torch.full_like(values, 1e6)], 1)
    valid = torch.tensor([True, True, False]).expand(len(values), -1)
    content = torch.tensor([False, True, False]).expand(len(values), -1)
    return Tokens(rows[..., None], valid, content)


TOKENS = {"text": tokens_of(WORDS), "image": tokens_of(PATCHES)}


def sums(tokens):
    """Sum of the valid tokens of each modality, less that of the special one."""
    return [(t.values[..., 0] * t.valid).sum(1) - 1 for t in (tokens["text"], tokens["image"])]


def additive(tokens):
    text, image = sums(tokens)
    return 2 * text + image + 10


def product(tokens):
    text, image = sums(tokens)
    return text * image + text


def textual(tokens):
    return sums(tokens)[0]


def two_answers(tokens):
    text, image = sums(tokens)
    return torch.stack([text + image, text * image], 1)


TARGET = torch.ones(COUNT, dtype=torch.bool)


def shapley(model, target=TARGET, batch_size=4):
    return shapley_values(coalition_values(model, TOKENS, target, batch_size))


def test_an_additive_model_gives_each_modality_what_it_adds():
    found = shapley(additive)
    assert found["text"] == pytest.approx((2 * WORDS).numpy())
    assert found["image"] == pytest.approx(PATCHES.numpy())


def test_an_interaction_is_shared_by_halves_and_all_sums_to_what_both_change():
    found, half = shapley(product), (WORDS * PATCHES / 2).numpy()
    assert found["image"] == pytest.approx(half)
    assert found["text"] == pytest.approx(half + WORDS.numpy())


def test_values_are_of_the_target_class_and_of_any_batch():
    both = shapley(product)
    other = shapley(product, ~TARGET, batch_size=1)
    for modality, values in both.items():
        assert other[modality] == pytest.approx(-values)
    chosen = shapley(two_answers, torch.tensor([1, 0, 1, 1, 0, 1]))
    second = (WORDS * PATCHES / 2).numpy()
    first = PATCHES.numpy()
    assert chosen["image"] == pytest.approx(np.where([1, 0, 1, 1, 0, 1], second, first))


def test_shares_are_of_absolute_values_and_undefined_where_nothing_matters():
    found = modality_share(textual, TOKENS, IDS, TARGET, 4)
    shares = found[found["measure"] == "share"].set_index(["modality", "sample_id"])["value"]
    assert (shares["text"] == 1).all()
    assert (shares["image"] == 0).all()
    nothing = modality_share(lambda t: 0 * textual(t), TOKENS, IDS, TARGET, 4)
    assert nothing.loc[nothing["measure"] == "share", "value"].isna().all()


def test_a_model_of_one_modality_has_no_share_and_no_gap():
    alone = {"text": TOKENS["text"]}
    for found in (
        modality_share(None, alone, IDS, TARGET, 4),
        emap(None, alone, pd.DataFrame(), None, 4),
    ):
        assert found["note"].tolist() == ["not applicable: the model reads text alone"]
        assert found["value"].isna().all()


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_the_projection_of_an_additive_model_is_itself(batch_size):
    own, projected = additive_projection(additive, TOKENS, batch_size)
    assert torch.equal(own, additive(TOKENS))
    assert torch.allclose(projected, own)


def test_the_projection_is_the_least_squares_fit_of_a_sum_of_functions():
    """On all pairs, as Hessel & Lee define it: dummies of texts and of images."""
    first, second = (
        part.repeat(*times) for part, times in ((WORDS[:, None], (1, 6)), (PATCHES, (6, 1)))
    )
    logits = (first * second + first).flatten().numpy()
    dummies = np.concatenate(
        [np.repeat(np.eye(COUNT), COUNT, 0), np.tile(np.eye(COUNT), (COUNT, 1))], 1
    )
    fitted = dummies @ np.linalg.lstsq(dummies, logits, rcond=None)[0]
    own, projected = additive_projection(product, TOKENS, 7)
    assert own.numpy() == pytest.approx(logits.reshape(COUNT, COUNT).diagonal())
    assert projected.numpy() == pytest.approx(fitted.reshape(COUNT, COUNT).diagonal())
    _, both = additive_projection(two_answers, TOKENS, 7)
    assert torch.allclose(both[:, 0], WORDS + PATCHES)


def binary_samples():
    label = (product(TOKENS) > -1).long().numpy()
    frame = pd.DataFrame({"sample_id": IDS, "cluster_id": IDS, "label": label})
    return frame.assign(prediction=label, threshold=0.7)


def test_the_gap_is_that_of_accuracy_and_auroc():
    samples = binary_samples()
    found = emap(product, TOKENS, samples, None, 7).assign(model="m", seed=0)
    table = tabulate_sanity(found, samples, resamples=50, seed=0)
    values = table.set_index("measure")[["value", "low", "high", "n"]]
    own, projected = additive_projection(product, TOKENS, 7)
    label = samples["label"].to_numpy()
    areas = [auroc(label, logits.numpy()) for logits in (own, projected)]
    assert values.loc["auroc", "value"] == areas[0] == 1
    assert values.loc["additive_auroc", "value"] == areas[1] < 1
    assert values.loc["auroc_gap", "value"] == areas[0] - areas[1]
    right = [((1 / (1 + np.exp(-x.numpy())) >= 0.7) == label).mean() for x in (own, projected)]
    assert values.loc["accuracy", "value"] == right[0]
    assert values.loc["accuracy_gap", "value"] == pytest.approx(right[0] - right[1])
    gap = values.loc["accuracy_gap"]
    assert gap["low"] <= gap["value"] <= gap["high"]
    assert (values["n"] == COUNT).all()


def test_answers_have_a_gap_of_their_accuracy_alone():
    scores = [json.dumps({"a": 1.0}), json.dumps({"b": 0.6})] * 3
    samples = pd.DataFrame({"sample_id": IDS, "cluster_id": IDS, "answers": scores, "label": 0})
    samples["prediction"] = 0
    found = emap(two_answers, TOKENS, samples, ["a", "b"], 7).assign(model="m", seed=0)
    table = tabulate_sanity(found, samples, resamples=50, seed=0).set_index("measure")
    assert set(table.index) == {"accuracy", "additive_accuracy", "accuracy_gap"}
    said = two_answers(TOKENS).argmax(1).tolist()
    right = [json.loads(s).get("ab"[k], 0) for s, k in zip(scores, said, strict=True)]
    assert table.loc["accuracy", "value"] == pytest.approx(np.mean(right))
    never = emap(two_answers, TOKENS, samples.assign(answers="{}"), ["a", "b"], 7)
    table = tabulate_sanity(never.assign(model="m", seed=0), samples, resamples=50, seed=0)
    bounds = table.set_index("measure")[["low", "high"]]
    assert bounds.loc["accuracy"].tolist() == pytest.approx([0, 1 - 0.025 ** (1 / COUNT)])
    assert bounds.loc["accuracy_gap"].tolist() == [0, 0]


@pytest.mark.parametrize("name", ["vilt_scratch", "vilbert", "blip_frozen"])
def test_models_take_every_coalition_whatever_else_is_in_the_batch(name):
    model = make_model(name)
    with torch.no_grad():
        tokens = model.embed(make_batch(frozen=model.frozen))
    target = torch.ones(5, dtype=torch.bool)
    together = coalition_values(model, tokens, target, 5)
    alone = coalition_values(model, tokens, target, 1)
    for present, values in together.items():
        assert np.isfinite(values).all()
        assert alone[present] == pytest.approx(values, abs=1e-9)
    own, projected = additive_projection(model, tokens, 8)
    assert own.numpy() == pytest.approx(together["text", "image"], abs=1e-9)
    assert not torch.allclose(projected, own)


def test_the_report_shows_what_a_model_owes_to_its_modalities():
    samples = binary_samples()
    found = pd.concat(
        [
            modality_share(product, TOKENS, IDS, TARGET, 4),
            emap(product, TOKENS, samples, None, 7),
        ]
    )
    alone = modality_share(None, {"text": TOKENS["text"]}, IDS, TARGET, 4)
    records = pd.concat([found.assign(model="m"), alone.assign(model="text_only")]).assign(seed=0)
    table = tabulate_sanity(records, samples, resamples=50, seed=0).replace("", np.nan)
    first, second = modality_table(table).to_dict("records")
    share = table[(table["measure"] == "share") & (table["modality"] == "text")]
    assert first["text share"][1] == share["value"].iat[0]
    assert first["AUROC"][1] == 1
    assert second["AUROC gap"] == ("", "")
    assert second["note"] == "not applicable: the model reads text alone"
    assert sanity_table(table).empty


def test_the_report_shows_the_end_of_the_cascade():
    blank = {"model": "m", "seed": 0, "method": "rollout", "modality": "image", "note": np.nan}
    rows = [
        {"check": "cascading", "step": step, "measure": "spearman_abs", "value": 1 / step}
        for step in range(1, 11)
    ]
    rows.append({"check": "stability", "measure": "spearman", "value": 0.9, "degenerate": 3})
    table = pd.DataFrame([{**blank, "degenerate": 1, "n": 9, **row} for row in rows])
    table["low"] = table["high"] = table["value"]
    (row,) = sanity_table(table).to_dict("records")
    assert row["random"] == ("0.10 [0.10, 0.10]", 0.1)
    assert row["noise"][1] == 0.9
    assert row["other class"] == ("", "")
    assert (row["n"], row["undefined"]) == (9, 3)
