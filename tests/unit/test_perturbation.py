"""Perturbation tests: counts, orders, curves and areas on models whose answer is known."""

import copy
import math
from dataclasses import replace
from itertools import combinations, permutations
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mmlens.models import MODELS
from mmlens.models.base import Model, Tokens
from mmlens.perturbation.curves import (
    SCORES,
    area_under_curve,
    mean_area,
    mean_curves,
    sample_areas,
    tabulate_auc,
    tabulate_skill,
)
from mmlens.perturbation.engine import (
    PUBLISHED_STEPS,
    Subsets,
    Units,
    kept_count,
    perturb,
    removal_order,
)
from mmlens.perturbation.judges import AnswerJudge, BinaryJudge

torch.set_num_threads(1)

QUARTERS = (0, 0.25, 0.5, 0.75, 1)
VALUES = (8.0, -1.0, 4.0, 0.5)


@pytest.mark.parametrize(("n", "exact", "published"), [(10, 2, 1), (5, 1, 0), (20, 4, 3)])
def test_exact_count_where_floating_point_keeps_one_too_few(n, exact, published):
    assert kept_count(n, 0.8, "default") == exact
    assert kept_count(n, 0.8, "published") == published


@given(n=st.integers(0, 2000), percent=st.integers(0, 100))
def test_default_count_is_the_floor_of_rational_arithmetic(n, percent):
    kept = kept_count(n, percent / 100, "default")
    assert kept == (100 - percent) * n // 100
    assert kept_count(n, np.float64(percent / 100), "default") == kept
    assert 0 <= kept - kept_count(n, percent / 100, "published") <= 1


@pytest.mark.parametrize(
    ("curve", "area"),
    [
        ([85.02, 60.31, 50.35, 45.25, 44.2, 43.39, 42.43, 41.04, 32.73], 54.45),
        ([85.02, 80.23, 74.82, 63.66, 60.94, 57.93, 54.76, 50.23, 32.73], 70.95),
        ([66.51, 55.42, 49.96, 46.13, 45.29, 43.67, 41.81, 37.9, 39.79], 51.01),
    ],
)
def test_area_reproduces_published_curves(curve, area):
    assert area_under_curve(PUBLISHED_STEPS, np.array(curve) / 100) == pytest.approx(area, abs=0.01)


class Additive(nn.Module):
    """The logit is the sum of all valid tokens of all modalities; counts the rows it computes."""

    name, rows = "additive", 0
    removal, logits = Model.removal, Model.logits

    def forward(self, tokens):
        self.rows += len(next(iter(tokens.values())).values)
        return sum((t.values[..., 0] * t.valid).sum(1) for t in tokens.values())

    def prepare(self, modality, tokens):
        return tokens


def additive_tokens(values, special=0.0, padding=2):
    """One sample: a special token, one token per value, a special token, padding of any value."""
    row = [special, *values, special, *[1e6] * padding]
    number = torch.arange(len(row))
    valid, content = number < len(values) + 2, (number > 0) & (number <= len(values))
    return Tokens(torch.tensor(row).double()[None, :, None], valid[None], content[None])


def one_sample(prediction=1):
    facts = {"sample_id": ["a"], "label": [1], "prediction": [prediction], "threshold": [0.5]}
    return pd.DataFrame(facts)


def attributions(maps, modality="text", sample_id="a"):
    rows = [{"sample_id": sample_id, "method": m, modality: np.array(v)} for m, v in maps]
    return pd.DataFrame(rows)


def run(maps, samples=None, tokens=None, steps=QUARTERS, protocol="default", batch_size=100):
    tokens = {"text": additive_tokens(VALUES)} if tokens is None else tokens
    samples = one_sample() if samples is None else samples
    options = {"steps": steps, "protocol": protocol, "batch_size": batch_size}
    return perturb(Additive(), tokens, attributions(maps), samples, **options)


def curve(frame, column, **keys):
    for key, value in keys.items():
        frame = frame[frame[key] == value]
    return frame.sort_values("fraction")[column].tolist()


def test_deletion_curves_of_an_additive_model_are_partial_sums():
    frame = run([("truth", VALUES)])
    assert curve(frame, "logit", direction="positive") == [11.5, 3.5, -0.5, -1, 0]
    assert curve(frame, "logit", direction="negative") == [11.5, 12.5, 12, 8, 0]
    assert curve(frame, "accuracy", direction="positive") == [1, 1, 0, 0, 1]
    expected = [1 / (1 + math.exp(-x)) for x in (11.5, 3.5, -0.5, -1, 0)]
    assert curve(frame, "probability", direction="positive") == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_curves_of_an_additive_model_have_a_closed_form(data):
    """By any order, in both procedures; the area too, and whole words and patches together."""
    values = data.draw(st.lists(st.integers(-50, 50).map(float), min_size=1, max_size=9))
    n, patches = len(values), data.draw(st.integers(0, len(values) - 1))
    relevance = np.array(data.draw(st.permutations(range(n))), float)
    tokens = {"text": additive_tokens(values[patches:])}
    maps = attributions([("m", relevance[patches:])]).assign(image=[relevance[:patches]])
    if patches:
        tokens["image"] = additive_tokens(values[:patches], padding=0)
    frame = perturb(
        Additive(), tokens, maps, one_sample(), steps=QUARTERS, protocol="default",
        batch_size=7, joint=True, procedures=("deletion", "insertion"),
    )  # fmt: skip
    parts = {"text": slice(patches, n)} | ({"image": slice(0, patches)} if patches else {})
    for modality, own in parts.items():
        # What one modality has lost, of the values in the order of their relevance.
        ordered = np.array(values[own])[np.argsort(relevance[own])]
        count, rest = len(ordered), sum(values) - ordered.sum()
        least = np.r_[0, ordered.cumsum()] + rest  # with the k least relevant tokens alone
        most = np.r_[0, ordered[::-1].cumsum()] + rest
        kept = [(4 - k) * count // 4 for k in range(5)]
        keys = {"modality": modality, "procedure": "deletion"}
        assert curve(frame, "logit", direction="positive", **keys) == least[kept].tolist()
        assert curve(frame, "logit", direction="negative", **keys) == most[kept].tolist()
        keys["procedure"] = "insertion"
        assert curve(frame, "logit", direction="positive", **keys) == most[kept[::-1]].tolist()
        area = 100 * np.mean([least[kept[1:]], least[kept[:-1]]])
        table = sample_areas(frame[(frame["modality"] == modality)])
        table = table.set_index(["direction", "procedure"])["logit"]
        assert table["positive", "deletion"] == pytest.approx(area)
        assert table["negative", "insertion"] == pytest.approx(area)
    joint = {"modality": "joint", "direction": "positive", "procedure": "deletion"}
    if patches:
        assert curve(frame, "logit", **joint)[0::4] == [sum(values), 0]


def test_scores_are_of_the_predicted_class_and_accuracy_of_the_label():
    frame = run([("truth", VALUES)], one_sample(prediction=0))
    assert curve(frame, "logit", direction="positive") == [-11.5, -3.5, 0.5, 1, 0]
    assert curve(frame, "accuracy", direction="positive") == [1, 1, 0, 0, 1]
    expected = [1 / (1 + math.exp(x)) for x in (11.5, 3.5, -0.5, -1, 0)]
    assert curve(frame, "probability", direction="positive") == pytest.approx(expected)


def test_random_order_removes_a_proportional_share_of_an_additive_model():
    every_order = [("random", order) for order in permutations(range(4))]
    frame = run(every_order)  # rows of one method are averaged, here over all orders
    for direction in ("positive", "negative"):
        expected = [(1 - fraction) * sum(VALUES) for fraction in QUARTERS]
        assert curve(frame, "logit", direction=direction) == pytest.approx(expected)


def test_special_tokens_stay_and_padding_and_other_modalities_do_not_matter():
    tokens = {"text": additive_tokens(VALUES, special=100), "image": additive_tokens((7,), 30)}
    found = perturb(
        Additive(),
        tokens,
        attributions([("truth", VALUES)]).assign(image=[np.ones(1)]),
        one_sample(),
        steps=(0, 1),
        protocol="default",
        batch_size=3,
    )
    assert curve(found, "logit", modality="text", direction="positive") == [278.5, 267]
    assert curve(found, "logit", modality="image", direction="negative") == [278.5, 271.5]


def test_nothing_removed_is_computed_once_for_all_modalities_or_is_known():
    tokens = {"text": additive_tokens(VALUES), "image": additive_tokens((7,), 30)}
    maps = attributions([("truth", VALUES)]).assign(image=[np.ones(1)])
    options = {"steps": (0, 1), "protocol": "default", "batch_size": 3, "joint": True}
    for known, computed in ((None, 4), (torch.tensor([5.0]), 3)):
        model = Additive()
        found = perturb(model, tokens, maps, one_sample(), logits=known, **options)
        assert model.rows == computed
        for modality, left in (("text", 67), ("image", 71.5), ("joint", 60)):
            whole = 78.5 if known is None else 5
            keys = {"modality": modality, "direction": "positive"}
            assert curve(found, "logit", **keys) == [whole, left]


def test_steps_0_and_1_are_shared_by_all_methods_and_computed_once():
    model, subsets = Additive(), Subsets()
    everything = [subsets.request(0, np.arange(4)) for _ in range(6)]
    nothing = [subsets.request(0, np.arange(0)) for _ in range(6)]
    tokens, judge = {"text": additive_tokens(VALUES)}, BinaryJudge(one_sample())
    logits = subsets.evaluate(model, tokens, "text", 10, judge)[:, 2]
    assert model.rows == 2
    assert logits[everything].tolist() == [11.5] * 6
    assert logits[nothing].tolist() == [0] * 6
    frame = run([("truth", VALUES), ("reverse", VALUES[::-1])], steps=(1, 0.5, 0))
    for fraction in (0, 1):
        assert frame.loc[frame["fraction"] == fraction, "logit"].nunique() == 1


def test_published_protocol_floors_in_floating_point():
    values = (1.0,) * 10
    options = {"tokens": {"text": additive_tokens(values)}, "steps": PUBLISHED_STEPS}
    exact = run([("ones", values)], **options)
    published = run([("ones", values)], protocol="published", **options)
    assert curve(exact, "logit", direction="positive") == [10, 7, 5, 2, 2, 1, 1, 0, 0]
    assert curve(published, "logit", direction="positive") == [10, 7, 5, 2, 1, 1, 0, 0, 0]


def test_ties_are_broken_by_sample_and_method_and_by_nothing_else():
    constant = np.zeros(30)
    order = removal_order(constant, "a", "m")
    assert sorted(order) == list(range(30))
    assert (order == removal_order(constant - 0.0, "a", "m")).all()
    assert (order != removal_order(constant, "b", "m")).any()
    assert (order != removal_order(constant, "a", "other")).any()
    half = np.repeat([1.0, 0.0], 15)
    assert set(removal_order(half, "a", "m")[:15]) == set(range(15, 30))


def test_a_batch_has_as_many_tokens_whatever_their_length():
    class Batches(Additive):
        def __init__(self):
            super().__init__()
            self.seen = []

        def forward(self, tokens):
            text = tokens["text"].values
            self.seen.append(tuple(text.shape[:2]))
            return super().forward(tokens)

    model, subsets = Batches(), Subsets()
    tokens = {"text": additive_tokens(VALUES), "image": additive_tokens((1.0,), padding=1)}
    for kept in (kept for size in (1, 2) for kept in combinations(range(4), size)):
        subsets.request(0, kept)
    logits = subsets.evaluate(model, tokens, "text", 2, BinaryJudge(one_sample()))[:, 2]
    # 8 tokens of text and 4 of image make 24 in two; 3 and 4 tokens of text 7 and 8 of both.
    assert model.seen == [(3, 3), (1, 3), (3, 4), (3, 4)]
    expected = [sum(VALUES[k] for k in kept) + 1 for _, kept in subsets.numbers]
    assert logits.tolist() == expected


@pytest.fixture(scope="module")
def real():
    """A real model, tokens of 6 samples with texts of 0 to 5 words, and random attributions."""
    torch.manual_seed(0)
    model = MODELS.get("vilbert_scratch")(30, width=8, heads=2, image_size=32, max_length=7)
    model = model.double().eval()
    text, image = torch.randn(6, 7, 8).double(), torch.randn(6, 5, 8).double()
    valid = torch.arange(7) < torch.arange(2, 8)[:, None]
    content = (torch.arange(7) > 0) & (torch.arange(7) < torch.arange(1, 7)[:, None])
    patches = torch.arange(5).expand(6, -1) > 0
    tokens = {
        "text": Tokens(text, valid, content),
        "image": Tokens(image, torch.ones(6, 5, dtype=torch.bool), patches),
    }
    rng = np.random.default_rng(0)
    ids = list("abcdef")
    rows = [
        {"sample_id": s, "method": m, "image": rng.random(4), "text": rng.random(k)}
        for k, s in enumerate(ids)
        for m in ("random", "random", "relevance")
    ]
    facts = {"sample_id": ids, "label": [0, 1] * 3, "prediction": [0, 0, 1] * 2, "threshold": 0.4}
    return model, tokens, pd.DataFrame(rows), pd.DataFrame(facts)


def perturbed(real, batch_size, order=slice(None)):
    model, tokens, maps, samples = real
    tokens = {m: t.rows(order) for m, t in tokens.items()}
    samples = samples.iloc[order].reset_index(drop=True)
    options = {"steps": QUARTERS, "protocol": "default", "batch_size": batch_size}
    frame = perturb(model, tokens, maps, samples, **options)
    keys = ["sample_id", "method", "modality", "direction", "fraction"]
    return frame.sort_values(keys, ignore_index=True)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_batch_size_does_not_change_scores(real, batch_size):
    expected, found = perturbed(real, 500), perturbed(real, batch_size)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-10)


def test_scores_belong_to_the_sample_wherever_it_stands(real):
    expected, found = perturbed(real, 500), perturbed(real, 500, [5, 3, 1, 0, 2, 4])
    pd.testing.assert_frame_equal(found, expected, rtol=1e-10)


def test_half_precision_is_close_and_has_to_be_asked_for(real):
    model, tokens, maps, samples = real
    model = copy.deepcopy(model).float()
    tokens = {m: replace(t, values=t.values.float()) for m, t in tokens.items()}
    options = {"steps": QUARTERS, "protocol": "default", "batch_size": 100}
    full, half = (
        perturb(model, tokens, maps, samples, precision=p, **options)["logit"]
        for p in ("float32", "bfloat16")
    )
    pd.testing.assert_series_equal(full, perturb(model, tokens, maps, samples, **options)["logit"])
    assert 1e-5 < (full - half).abs().max() < 0.05 * full.abs().max()


def test_nothing_removed_is_the_plain_forward_pass(real):
    model, tokens, _, samples = real
    with torch.no_grad():
        logits = model(tokens).numpy() * np.where(samples["prediction"] == 1, 1, -1)
    frame = perturbed(real, 500)
    whole = frame[frame["fraction"] == 0]
    expected = whole["sample_id"].map(dict(zip(samples["sample_id"], logits, strict=True)))
    np.testing.assert_allclose(whole["logit"], expected, rtol=1e-10)


def test_tables_hold_the_areas_of_the_mean_curves(real):
    _, _, maps, samples = real
    samples = samples.assign(cluster_id=["x", "x", "y", "y", "z", "z"])
    frame = perturbed(real, 500).assign(model="m", seed=0)
    target = maps["sample_id"].map(dict(zip("abcdef", [0, 0, 1] * 2, strict=True)))
    flags = np.where((maps["sample_id"] == "b") & (maps["method"] == "random"), "text constant", "")
    known = maps.assign(model="m", seed=0, target=target, flags=flags, words=[range(4)] * len(maps))
    table = tabulate_auc(frame, known, samples, resamples=50, seed=0)
    assert table["operator"].unique().tolist() == ["token_drop"]
    curves = mean_curves(frame, samples, resamples=50, seed=0)
    keys = ["method", "modality", "direction"]
    whole = table[table["subset"] == "all"].set_index([*keys, "score"])
    for found, part in curves.groupby(keys):
        for score in SCORES:
            area = area_under_curve(part["fraction"], part[score])
            row = whole.loc[(*found, score)]
            assert row["auc"] == pytest.approx(area)
            assert row["auc_low"] <= row["auc"] <= row["auc_high"]
            assert row["n"] == 6
            assert row["flagged"] == (found[:2] == ("random", "text"))
    assert table.loc[table["subset"] == "pred_1", "n"].unique().tolist() == [2]


def test_areas_of_a_model_that_is_always_wrong_have_the_bounds_of_a_share():
    areas, clusters = pd.Series([0.0] * 20), [f"image{k}" for k in range(20)]
    found = mean_area(areas, clusters, "accuracy", 100, 0)
    assert found == pytest.approx((0, 0, 100 * (1 - 0.025 ** (1 / 20))))
    areas = pd.Series(np.linspace(40, 60, 200))
    clusters = [f"image{k}" for k in range(200)]
    probability = mean_area(areas, clusters, "probability", 2000, 0)
    assert probability == pytest.approx(mean_area(areas, clusters, "logit", 2000, 0), abs=0.1)


def test_insertion_is_the_deletion_of_the_other_direction_from_its_other_end():
    options = {"steps": (0, 0.25, 0.95, 1), "protocol": "default", "batch_size": 10}
    model, maps = Additive(), attributions([("truth", VALUES)])
    tokens = {"text": additive_tokens(VALUES)}
    both = ("deletion", "insertion")
    frame = perturb(model, tokens, maps, one_sample(), procedures=both, **options)
    assert model.rows == 4  # of deletion: all, three in either direction, none (as 0.95 keeps)
    own = frame[(frame["procedure"] == "insertion") & (frame["direction"] == "positive")]
    own = own.sort_values("fraction")
    assert own["fraction"].tolist() == [0, 0.05, 0.75, 1]
    assert own["logit"].tolist() == [0, 0, 12.5, 11.5]  # 8 + 4 + 0.5 come first, -1 last


def test_the_pieces_of_a_word_go_together_but_not_in_the_published_protocol():
    maps = [("truth", (1.0, 1.0, 5.0, -4.0))]  # words of 2, 1 and 1 pieces
    options = {"steps": QUARTERS, "batch_size": 10, "words": {"a": [0, 0, 1, 2]}}
    tokens = {"text": additive_tokens(VALUES)}
    found, pieces = (
        perturb(Additive(), tokens, attributions(maps), one_sample(), protocol=p, **options)
        for p in ("default", "published")
    )
    # Words kept of three: 3, 2, 1, 0, 0. Relevances 2, 5 and -4, values 7, 4 and 0.5.
    assert curve(found, "logit", direction="positive") == [11.5, 7.5, 0.5, 0, 0]
    assert curve(found, "logit", direction="negative") == [11.5, 11, 4, 0, 0]
    assert curve(pieces, "logit", direction="positive")[1] == 7.5  # the third piece is gone
    options["words"] = {"a": [0, 1]}
    with pytest.raises(ValueError, match="found 4 relevances and 2 tokens of words, expected 4"):
        perturb(Additive(), tokens, attributions(maps), one_sample(), protocol="default", **options)


def test_orders_that_say_nothing_of_words_do_not_follow_the_number_of_their_pieces():
    groups, tokens = np.array([0, 0, 0, 1, 2, 3]), {"text": additive_tokens(np.zeros(6))}
    units = Units(tokens, one_sample(), {"a": groups})

    def first_removed(method, values):
        row = SimpleNamespace(sample_id="a", method=method, text=values)
        relevance = units.relevance(row, "text", groups)
        return removal_order(relevance, "a", method)[-1]

    rng = np.random.default_rng(0)
    removed = [first_removed("random", rng.random(6)) for _ in range(2000)]
    shares = np.bincount(removed, minlength=4) / len(removed)
    np.testing.assert_allclose(shares, 0.25, atol=0.04)
    assert first_removed("token_position", np.array([1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])) == 0
    row = SimpleNamespace(sample_id="a", method="relevance", text=np.full(6, 2.0))
    assert units.relevance(row, "text", groups).tolist() == [0, 0, 0, 0]
    row.text = np.array([1.0, 2, 3, 4, 5, 6])
    assert units.relevance(row, "text", groups).tolist() == [6, 4, 5, 6]


def test_words_and_patches_go_together_in_the_order_of_their_ranks():
    tokens = {"text": additive_tokens(VALUES), "image": additive_tokens((7.0, 3.0), padding=0)}
    maps = attributions([("truth", VALUES)]).assign(image=[np.array([700.0, 300.0])])
    frame = perturb(
        Additive(), tokens, maps, one_sample(), steps=(0, 0.5, 1), protocol="default",
        batch_size=10, joint=True, words={"a": range(4)},
    )  # fmt: skip
    assert frame["modality"].unique().tolist() == ["text", "image", "joint"]
    # Quantiles of words 7/8, 1/8, 5/8 and 3/8, of patches 3/4 and 1/4.
    joint = {"modality": "joint", "operator": "token_drop"}
    assert curve(frame, "logit", direction="positive", **joint) == [21.5, 2.5, 0]
    assert curve(frame, "logit", direction="negative", **joint) == [21.5, 19, 0]


def test_a_method_without_a_map_of_a_modality_has_no_rows_there():
    tokens = {"text": additive_tokens(VALUES), "image": additive_tokens((7.0, 3.0))}
    maps = attributions([("truth", VALUES)]).assign(image=[np.zeros(0)])
    options = {"steps": (0, 1), "protocol": "default", "batch_size": 10, "joint": True}
    frame = perturb(Additive(), tokens, maps, one_sample(), **options)
    assert frame["modality"].unique().tolist() == ["text"]


def test_skill_is_measured_from_the_random_order_on_the_same_samples(real):
    _, _, maps, samples = real
    samples = samples.assign(cluster_id=["x", "x", "y", "y", "z", "z"])
    frame = perturbed(real, 500).assign(model="m", seed=0)
    known = maps.assign(model="m", seed=0, target=1, flags="", words=[range(4)] * len(maps))
    options = {"resamples": 50, "seed": 0}
    areas = tabulate_auc(frame, known, samples, **options)
    skill = tabulate_skill(frame, known, samples, **options)
    mean = areas.set_index(["method", "modality", "direction", "score", "subset"])["auc"]
    for row in skill.itertuples():
        positive, negative, random = (
            mean[method, row.modality, direction, row.score, row.subset]
            for method, direction in (
                (row.method, "positive"), (row.method, "negative"), ("random", "positive")
            )
        )  # fmt: skip
        assert row.difference == pytest.approx(negative - positive)
        assert row.difference_low <= row.difference <= row.difference_high
        if row.score == "logit":
            assert np.isnan(row.skill)
        elif random:
            assert row.skill == pytest.approx((random - positive) / random)
            assert row.skill_low - 1e-12 <= row.skill <= row.skill_high + 1e-12
    random = skill[(skill["method"] == "random") & (skill["score"] == "probability")]
    assert (random[["skill", "skill_low", "skill_high"]] == 0).all().all()  # paired with itself


def test_answers_are_judged_by_the_accuracy_of_what_is_said():
    samples = pd.DataFrame(
        {"answers": ['{"red": 0.6, "Red": 0.3}', '{"two": 1.0}'], "prediction": [1, 0]}
    )
    judge = AnswerJudge(samples, ["2", "red", "blue"])
    logits = torch.tensor([[0.0, 3.0, 1.0], [0.0, 3.0, 1.0], [2.0, 1.0, 0.0]])
    accuracy, probability, logit = judge(logits, [0, 1, 1]).T
    assert accuracy == pytest.approx([0.9, 0, 1])  # "two" and "2" are one answer
    assert logit.tolist() == [3, 0, 2]  # of the answers 1, 0 and 0, predicted with all tokens
    assert probability == pytest.approx(1 / (1 + np.exp([-3.0, 0, -2])))


def test_a_model_of_many_answers_is_perturbed_like_one_of_two_labels():
    class ThreeAnswers(Additive):
        def forward(self, tokens):
            total = super().forward(tokens)
            return torch.stack([total * 0 + 5, total, -total], 1)

    samples = pd.DataFrame({"sample_id": ["a"], "answers": ['{"yes": 1.0}'], "prediction": [1]})
    frame = perturb(
        ThreeAnswers(), {"text": additive_tokens(VALUES)}, attributions([("truth", VALUES)]),
        samples, steps=QUARTERS, protocol="default", batch_size=10, answers=["no", "yes", "x"],
    )  # fmt: skip
    assert curve(frame, "logit", direction="negative") == [11.5, 12.5, 12, 8, 0]
    assert curve(frame, "accuracy", direction="negative") == [1, 1, 1, 1, 0]
