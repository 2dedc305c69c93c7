"""Zero-shot and retrieval tables against brute force, with controls at chance."""

import json
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from mmlens.ranking import RANDOM, SHUFFLED
from mmlens.ranking.scores import (
    best_ranks,
    caption_table,
    class_records,
    head_of,
    ranking_records,
)
from mmlens.ranking.tables import missed, random_precision, retrieval_table, zero_shot_table

NAMES = [f"class {k}" for k in range(12)]
STATISTICS = {"resamples": 200, "seed": 0}


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(0)
    rows = []
    for k in range(150):
        present = sorted(rng.choice(12, rng.integers(1, 4), replace=False).tolist())
        rows.append(
            {
                "sample_id": f"{k:03d}",
                "split": "test",
                "label": present[0],
                "targets": json.dumps([NAMES[c] for c in present]),
                "captions": json.dumps([f"picture {k}", f"group {k // 3}"]),
                "cluster_id": f"{k}",
            }
        )
    return pd.DataFrame(rows)


def scored(samples, signal, seed=0):
    """Class scores (N, C): noise, and `signal` for every class that an image shows."""
    rng = np.random.default_rng(seed)
    present = np.array([[n in json.loads(cell) for n in NAMES] for cell in samples["targets"]])
    return rng.normal(size=present.shape) + signal * present, present


def test_zero_shot_metrics_are_those_of_brute_force(samples):
    scores, present = scored(samples, 1.5)
    records = class_records(samples, scores, True, "")
    table = zero_shot_table(records, samples, NAMES, **STATISTICS)
    found = table[table["control"] == ""].set_index(["category", "rule", "metric"])["value"]
    order = (-scores).argsort(1)
    for k in (1, 5):
        best = [set(row[:k]) for row in order]
        any_right = [
            bool(top & set(np.flatnonzero(own))) for top, own in zip(best, present, strict=True)
        ]
        largest = [label in top for top, label in zip(best, samples["label"], strict=True)]
        assert found["all", "any", f"top{k}"] == np.mean(any_right)
        assert found["all", "largest", f"top{k}"] == np.mean(largest)
    precision = [average_precision_score(present[:, c], scores[:, c]) for c in range(12)]
    assert found["all", "any", "map"] == pytest.approx(np.mean(precision))
    for c, name in enumerate(NAMES):
        assert found[name, "any", "average_precision"] == pytest.approx(precision[c])
        own = samples["label"] == c
        if own.any():
            assert found[name, "largest", "top1"] == (order[own, 0] == c).mean()
    true = scores[np.arange(150), samples["label"]]
    assert found["all", "", "similarity"] == pytest.approx(true.mean())
    bounds = table.dropna(subset=["low"])
    assert (bounds["low"] <= bounds["value"] + 1e-12).all()
    assert (bounds["value"] <= bounds["high"] + 1e-12).all()


def test_controls_are_at_chance(samples):
    scores, _ = scored(samples, 3.0)
    noise, _ = scored(samples, 0.0, seed=1)
    records = pd.concat(
        [
            class_records(samples, scores, True, ""),
            class_records(samples.head(100), noise[:100], False, RANDOM),
        ]
    )
    table = zero_shot_table(records, samples, NAMES, **STATISTICS)
    whole = table[(table["category"] == "all") & table["chance"].notna()]
    for control, rows in whole.groupby("control"):
        inside = (rows["low"] <= rows["chance"]) & (rows["chance"] <= rows["high"])
        assert inside.all() == (control != ""), rows
    assert set(whole["control"]) == {"", SHUFFLED, RANDOM}
    assert set(whole.loc[whole["control"] == RANDOM, "n"]) == {100}


def test_a_control_without_a_hit_holds_chance(samples):
    """0 of 24 is what chance of 1 / 12 often gives; a class of one image has no interval."""
    part = samples.head(24)
    wrong = (part["label"].to_numpy() + 1) % 12
    scores = np.eye(12)[wrong]
    table = zero_shot_table(class_records(part, scores, False, RANDOM), part, NAMES, **STATISTICS)
    rows = table[(table["metric"] == "top1") & (table["rule"] == "largest")].set_index("category")
    assert rows.loc["all", "value"] == rows.loc["all", "low"] == 0
    assert rows.loc["all", "high"] == pytest.approx(1 - 0.025 ** (1 / 24))
    assert rows.loc["all", "high"] > 1 / 12
    of_class = rows.drop(index="all")
    assert (of_class["high"].isna() == (of_class["n"] == 1)).all()
    assert set(of_class["n"] == 1) == {False, True}
    relevant = caption_table(part)[1]
    worst = {kind: -relevant.astype(float) for kind in ("image", "caption")}
    records = ranking_records(part, worst, worst["image"], np.zeros(24), RANDOM, 0)
    found = retrieval_table(records, part, **STATISTICS)
    found = found[found["metric"] == "r1"]
    assert (found["value"] == 0).all()
    assert ((found["low"] == 0) & (found["chance"] < found["high"])).all()


def test_shuffled_is_the_mean_over_all_orders_of_the_labels(samples):
    part = samples.head(4)
    scores = scored(part, 1.0)[0].round()  # some tie
    orders = [list(order) for order in permutations(range(4))]
    columns = ["rule", "category", "metric"]
    found = []
    for order in orders:
        dealt = part.assign(**{c: part[c].to_numpy()[order] for c in ("label", "targets")})
        records = class_records(dealt, scores, False, RANDOM)
        table = zero_shot_table(records, dealt, NAMES, **STATISTICS)
        found.append(table[table["metric"] != "similarity"])
    whole = [table[table["category"] == "all"] for table in found]
    mean = pd.concat(whole).groupby(columns)["value"].mean()
    for table in whole:
        assert table.set_index(columns)["shuffled"].to_dict() == pytest.approx(mean.to_dict())
    # Of one class, of whose images there are as many in every order.
    precision = pd.concat(found)
    precision = precision[precision["metric"] == "average_precision"].groupby("category")
    for _, rows in precision:
        assert rows["shuffled"].to_numpy() == pytest.approx(rows["value"].mean())


def test_a_network_that_ranks_all_images_alike_gets_what_shuffled_says(samples):
    scores = np.broadcast_to(np.arange(12.0), (len(samples), 12))
    records = class_records(samples, scores, False, RANDOM)
    table = zero_shot_table(records, samples, NAMES, **STATISTICS)
    table = table[table["category"] == "all"].dropna(subset=["chance"])
    assert set(table["metric"]) == {"top1", "top5", "map"}
    assert table["value"].to_numpy() == pytest.approx(table["shuffled"].to_numpy())
    assert (table["value"] - table["chance"]).abs().max() > 0.02


@given(st.integers(1, 8), st.integers(0, 8), st.integers(1, 5))
def test_chance_is_what_random_orders_give(items, relevant, best):
    relevant = min(relevant, items)
    rng = np.random.default_rng(0)
    hits = [bool((rng.permutation(items)[:best] < relevant).any()) for _ in range(400)]
    expected = 1 - missed(items, np.array([relevant]), best)[0]
    assert np.mean(hits) == pytest.approx(expected, abs=0.12)
    assert 0 <= expected <= 1


@pytest.mark.parametrize(("items", "relevant"), [(1, 1), (6, 1), (6, 6), (30, 7)])
def test_the_average_precision_of_chance(items, relevant):
    rng = np.random.default_rng(0)
    right = np.arange(items) < relevant
    for ties in (1, 2, items):
        scores = np.arange(items) // ties
        found = [average_precision_score(rng.permutation(right), scores) for _ in range(3000)]
        assert random_precision(relevant, scores) == pytest.approx(np.mean(found), abs=0.03)


def retrieved(samples, own, first, control=""):
    both = own if isinstance(own, dict) else dict.fromkeys(("image", "caption"), own)
    records = ranking_records(samples, both, first, np.zeros(len(samples)), control, 0)
    table = retrieval_table(records, samples, "clip", **STATISTICS)
    assert set(table["ranked_by"]) == {"random numbers" if control == RANDOM else "clip"}
    return records, table.set_index(["direction", "metric"])["value"]


def test_retrieval_is_that_of_brute_force(samples):
    captions, relevant = caption_table(samples)
    assert len(captions) == 150 + 50
    assert relevant.sum(0).tolist().count(3) == 50
    scores = np.random.default_rng(2).normal(size=relevant.shape) + 2.5 * relevant
    retrieved(samples, scores, scores, RANDOM)
    records, found = retrieved(samples, scores, scores)
    for direction, matrix, right in (
        ("image to text", scores, relevant),
        ("text to image", scores.T, relevant.T),
    ):
        order = (-matrix).argsort(1)
        for k in (1, 5, 10):
            hits = [own[row[:k]].any() for row, own in zip(order, right, strict=True)]
            assert found[direction, f"r{k}"] == np.mean(hits)
    assert (records["relevant"] == np.r_[np.full(150, 2), relevant.sum(0)]).all()
    _, shuffled = retrieved(samples, scores, scores, SHUFFLED)
    assert shuffled["image to text", "r10"] < 0.3 < found["image to text", "r10"]


def test_the_head_of_a_first_ranking_is_ordered_anew(samples):
    _, relevant = caption_table(samples)
    rng = np.random.default_rng(3)
    first = rng.normal(size=relevant.shape) + 1.5 * relevant
    exact = rng.normal(size=relevant.shape) + 6 * relevant
    heads = {kind: head_of(first, 20, axis) for kind, axis in (("image", 1), ("caption", 0))}
    assert (heads["image"].sum(1) == 20).all()
    assert (heads["caption"].sum(0) == 20).all()
    assert (first[heads["image"]].reshape(150, 20).min(1) == np.sort(first, 1)[:, -20]).all()
    own = {kind: np.where(chosen, exact, np.nan) for kind, chosen in heads.items()}
    ranks = best_ranks(own["image"], first, relevant, 0)
    for row in range(0, 150, 7):
        inside = np.flatnonzero(heads["image"][row])
        outside = np.flatnonzero(~heads["image"][row])
        ordered = (-exact[row, inside]).argsort(), (-first[row, outside]).argsort()
        order = [*inside[ordered[0]], *outside[ordered[1]]]
        assert ranks[row] == np.flatnonzero(relevant[row, order])[0]
    _, alone = retrieved(samples, first, first)
    _, both = retrieved(samples, own, first)
    _, best = retrieved(samples, exact, exact)
    for name in (("image to text", "r1"), ("text to image", "r1")):
        assert alone[name] < both[name] <= best[name]


def test_ties_are_broken_at_random():
    same = np.zeros((2000, 10))
    rng = np.random.default_rng(4)
    relevant = np.zeros_like(same, bool)
    relevant[np.arange(2000), rng.integers(0, 10, 2000)] = True
    ranks = best_ranks(same, same, relevant, 0)
    assert np.bincount(ranks, minlength=10).min() > 140
