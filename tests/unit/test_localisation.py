"""Localisation: hand-made maps with known scores, and areas counted pixel by pixel."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import SHARED
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from sklearn.metrics import roc_auc_score

from mmlens.datasets import DATASETS
from mmlens.datasets.samples import build_samples
from mmlens.datasets.truth import NO_MASK, box_coverage, coverage, is_named
from mmlens.features.boxes import patch_boxes
from mmlens.features.stem import patch_words
from mmlens.perturbation.localisation import (
    image_truth,
    mask_auc,
    mass,
    pointing,
    rank,
    score_maps,
    tabulate_localisation,
    text_truth,
)

TRUTH = np.array([0.0, 1.0, 0.5, 0.0])
OPEN = SHARED / "data/coco_open"


@pytest.mark.parametrize(
    ("relevance", "expected"),
    [
        ([0, 1, 0, 0], (1, 1, None)),
        ([0, 0, 1, 0], (1, 0.5, None)),  # a hit on half a patch is a hit with half the mass
        ([1, 0, 0, 1], (0, 0, None)),
        ([1, 1, 1, 1], (0.5, 1.5 / 4, 0.5)),  # all tie: the share of tokens that would hit
        ([-1, 2, -5, 1], (1, 2 / 3, None)),  # negative relevance has no mass
    ],
)
def test_scores_of_hand_made_maps(relevance, expected):
    relevance = np.array(relevance, float)
    assert pointing(relevance, TRUTH) == expected[0]
    assert mass(relevance, TRUTH) == pytest.approx(expected[1])
    if expected[2] is not None:
        assert mask_auc(relevance, TRUTH) == expected[2]


def test_mask_auc_of_perfect_inverted_and_constant_maps():
    whole = np.array([0.0, 1.0, 1.0, 0.0])
    assert mask_auc(whole, whole) == 1
    assert mask_auc(-whole, whole) == 0
    assert mask_auc(np.full(4, 0.3), whole) == 0.5
    # half a token is positive and half of it negative: they tie, so that no map is perfect
    assert mask_auc(TRUTH, TRUTH) == pytest.approx((1 * 2.5 + 0.5 * 2.25) / (1.5 * 2.5))


def quantus(a, s):
    """Pointing game, relevance mass and rank accuracy as Quantus 0.6 defines them; its own answers
    are in tests/golden/test_oracles.py.

    quantus/metrics/localisation: pointing_game.py, relevance_mass_accuracy.py and
    relevance_rank_accuracy.py of understandable-machine-intelligence-lab/Quantus, `evaluate_*`,
    without normalisation, for a map `a` and a mask `s` of as many pixels.
    """
    inside = {k for k, on in enumerate(s) if on}
    highest = {k for k, value in enumerate(a) if value == max(a)}
    most_relevant = sorted(range(len(a)), key=lambda k: -a[k])[: len(inside)]
    return (
        float(bool(highest & inside)),
        sum(a[k] for k in inside) / sum(a),
        len(inside & set(most_relevant)) / len(inside),
    )


@given(
    st.lists(st.floats(0.01, 9), min_size=2, max_size=30, unique=True),
    st.data(),
)
def test_scores_of_maps_without_ties_are_those_of_quantus(relevance, data):
    covered = data.draw(
        st.lists(st.booleans(), min_size=len(relevance), max_size=len(relevance)).filter(any)
    )
    found = [f(np.array(relevance), np.array(covered, float)) for f in (pointing, mass, rank)]
    assert found == pytest.approx(list(quantus(relevance, covered)))


def test_where_tokens_tie_quantus_takes_the_luckiest_or_the_first_and_we_the_mean():
    relevance, covered = np.ones(4), np.array([0.0, 0.0, 0.0, 1.0])
    assert quantus(relevance, covered) == (1, 0.25, 0)
    assert quantus(relevance, covered[::-1]) == (1, 0.25, 1)
    assert [f(relevance, covered) for f in (pointing, mass, rank)] == [0.25, 0.25, 0.25]


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 4)), min_size=2, max_size=8))
def test_rank_accuracy_is_that_of_pixels_in_the_mean_over_orders_of_ties(tokens):
    relevance, covered = np.array(tokens).T
    if covered.any():
        pixels = np.concatenate([np.arange(4) < count for count in covered])
        values, area = np.repeat(relevance, 4), covered.sum()
        cut = np.sort(values)[-area]
        surely, perhaps = values > cut, values == cut
        left = area - surely.sum()
        expected = (pixels[surely].sum() + left * pixels[perhaps].mean()) / area
        assert rank(relevance.astype(np.float32), covered / 4) == pytest.approx(expected)


def test_a_map_without_positive_relevance_has_no_mass():
    assert np.isnan(mass(np.array([0.0, -1.0, 0.0, 0.0]), TRUTH))


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 8)), min_size=2, max_size=30))
def test_mask_auc_is_the_auroc_of_pixels(tokens):
    relevance, covered = np.array(tokens).T
    if 0 < covered.sum() < 8 * len(covered):
        pixels = np.concatenate([np.arange(8) < count for count in covered])
        expected = roc_auc_score(pixels, np.repeat(relevance, 8))
        assert mask_auc(relevance.astype(np.float32), covered / 8) == pytest.approx(expected)


@given(
    st.lists(st.tuples(st.floats(-3, 3), st.floats(0, 1)), min_size=2, max_size=20),
    st.randoms(use_true_random=False),
)
def test_scores_depend_on_pairs_only_and_order_scores_on_ranks_only(pairs, random):
    relevance, truth = np.array(pairs).T
    if 0 < truth.sum() < len(truth):
        shuffled = random.sample(pairs, len(pairs))
        for metric in (pointing, rank, mask_auc):
            expected = pytest.approx(metric(relevance, truth))
            assert metric(*np.array(shuffled).T) == expected
            ranks = np.unique(relevance, return_inverse=True)[1]
            assert metric(ranks.astype(float), truth) == expected


@given(st.integers(4, 40), st.integers(4, 40), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_coverage_counts_the_pixels_of_every_cell(height, width, size, seed):
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    cells = coverage(mask, (size, size))
    rows = np.linspace(0, height, size + 1).round().astype(int)
    columns = np.linspace(0, width, size + 1).round().astype(int)
    for r in range(size):
        for c in range(size):
            cell = mask[rows[r] : rows[r + 1], columns[c] : columns[c + 1]]
            assert cells[r, c] == pytest.approx(cell.mean())


def truth_row(sample_id, mask, named=True, spans=()):
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {
        "sample_id": sample_id,
        "mask_height": mask.shape[0],
        "mask_width": mask.shape[1],
        "mask_counts": rle["counts"].decode(),
        "named": named,
        "word_spans": json.dumps(spans),
    }


def test_objects_with_only_a_box_are_skipped_by_whoever_reads_masks():
    mask = np.zeros((32, 32), bool)
    mask[:16] = True
    rows = [truth_row("a", mask), truth_row("b", mask)]
    rows[1]["mask_counts"] = NO_MASK
    truth = pd.DataFrame(rows).assign(category="red ring")
    assert set(image_truth(truth, grids({"a": (2, 2), "b": (2, 2)}))) == {"a"}
    samples = pd.DataFrame({"sample_id": ["a", "b"]})
    targets, words = patch_words(samples, truth, (2, 2))
    assert words == ["red", "ring"]
    assert targets[0].tolist() == [[[1, 1], [0, 0]]] * 2
    assert not targets[1].any()


def example():
    """Two samples, one object each of which it names: left half, upper right quarter."""
    left, corner = np.zeros((32, 48), bool), np.zeros((48, 48), bool)
    left[:, :24], corner[:24, 24:] = True, True
    truth = pd.DataFrame(
        [
            truth_row("a", np.ones((32, 48), bool), named=False, spans=[[2, 5], [6, 9]]),
            truth_row("a", left, spans=[[2, 5], [6, 9]]),
            truth_row("b", corner, spans=[[4, 7]]),
        ]
    )
    samples = pd.DataFrame(
        {
            "sample_id": ["a", "b"],
            "text": ["A red cup, a Cup.", "red red cup"],
            "label": [1, 0],
            "cluster_id": ["x", "y"],
        }
    )
    return truth, samples


def grids(sizes):
    """Attributions of samples whose tokens are the patches of grids of these sizes."""
    return pd.DataFrame(
        [
            {"sample_id": s, "grid_rows": rows, "grid_columns": columns, "boxes": []}
            for s, (rows, columns) in sizes.items()
        ]
    )


def test_truth_of_patches_is_row_by_row_and_of_the_named_object():
    truth, _ = example()
    found = image_truth(truth, grids({"a": (2, 4), "b": (2, 2), "without truth": (2, 2)}))
    assert set(found) == {"a", "b"}
    assert found["a"].tolist() == [1, 1, 0, 0] * 2
    assert found["b"].tolist() == [0, 1, 0, 0]


def test_truth_of_regions_is_the_covered_share_of_each_box():
    truth, _ = example()
    found = grids({"a": (0, 0), "b": (0, 0)})
    left, whole, edge, dot = [0, 0, 0.5, 1], [0, 0, 1, 1], [0.25, 0, 0.75, 1], [0.9, 0.9, 0.9, 0.9]
    found["boxes"] = [np.ravel([left, whole, edge]), np.ravel([dot, whole])]
    known = image_truth(truth, found)
    assert known["a"].tolist() == [1, 0.5, 0.5]
    assert known["b"].tolist() == [0, 0.25]


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_boxes_of_a_grid_are_covered_as_its_patches(rows, columns, seed):
    mask = np.random.default_rng(seed).random((6 * rows, 5 * columns)) < 0.5
    boxes = patch_boxes((rows, columns))
    assert np.allclose(box_coverage(mask, boxes), coverage(mask, (rows, columns)).ravel())


def test_boxes_are_a_truth_of_their_own_where_masks_are_missing():
    truth, samples = example()
    box = {"x": 23.5, "y": -2.0, "width": 23.0, "height": 18.0}
    truth = truth.assign(**box)
    runs = attributions().assign(model="m", seed=0)
    table = tabulate_localisation(runs, samples, truth, resamples=20, seed=0)
    assert set(table["truth"]) == {"mask", "words"}
    truth.loc[2, "mask_counts"] = NO_MASK
    shown = grids({"a": (2, 4), "b": (2, 2)})
    masks, boxes = (image_truth(truth, shown, kind) for kind in ("mask", "box"))
    assert set(masks) == {"a"}
    # of 48 columns those from 23 to 46, of the rows the upper 16
    assert boxes["b"] == pytest.approx([1 / 24 * 16 / 24, 23 / 24 * 16 / 24, 0, 0])
    assert boxes["a"] == pytest.approx([0, 1 / 12, 1, 11 / 12, 0, 0, 0, 0])
    table = tabulate_localisation(runs, samples, truth, resamples=20, seed=0)
    found = table[table["subset"] == "all"].set_index(["method", "truth", "metric"])["n"]
    assert found["perfect", "mask", "rank"] == 1
    assert found["perfect", "box", "rank"] == found["perfect", "words", "rank"] == 2


def test_masks_of_several_named_objects_are_one_truth_and_count_only_together():
    left, corner = np.zeros((32, 32), bool), np.zeros((32, 32), bool)
    left[:, :16], corner[:16, 16:] = True, True
    truth = pd.DataFrame([truth_row("a", left), truth_row("a", corner)])
    shown = grids({"a": (2, 2)})
    assert image_truth(truth, shown)["a"].tolist() == [1, 1, 1, 0]
    truth.loc[1, "mask_counts"] = NO_MASK
    assert image_truth(truth, shown) == {}


@pytest.mark.parametrize(
    ("category", "text", "named"),
    [
        ("dog", "A Dog, asleep", True),
        ("dog", "two dogs", True),
        ("dog", "a hotdog", False),
        ("bus", "Buses wait", True),
        ("dining table", "a dining table", True),
        ("dining table", "a table", False),
    ],
)
def test_objects_are_named_by_the_words_of_their_category(category, text, named):
    assert is_named(category, text) == named


@pytest.mark.skipif(not OPEN.is_dir(), reason="shared photographs are not on this machine")
@pytest.mark.parametrize(
    ("file", "kind", "photographs", "named"),
    [("native", "mask", 47, 11), ("boxes", "box", 312, 143)],
)
def test_photographs_have_masks_and_boxes_as_truths(file, kind, photographs, named):
    instances = OPEN / f"annotations/instances_val2017_{file}.json"
    objects = json.loads(instances.read_text())["annotations"]
    assert len({o["image_id"] for o in objects}) == photographs
    splits = ("train", "val", "test")
    settings = {
        "root": str(OPEN),
        "files": {split: f"itm/sugarcrepe_pairs_{split}.jsonl" for split in splits},
        "instances": {split: str(instances.relative_to(OPEN)) for split in splits},
    }
    samples, truth, _ = build_samples(DATASETS.get("hateful_memes")(settings))
    assert samples["image"].nunique() == 169
    known = image_truth(truth, grids(dict.fromkeys(samples["sample_id"], (7, 7))), kind)
    of_image = samples.set_index("sample_id")["image"]
    assert of_image[list(known)].nunique() == named


def test_truth_of_words_tells_repeated_words_apart():
    truth, samples = example()
    tokens = {"a": ["A", "red", "cup", ",", "a", "Cup", "."], "b": ["red", "red", "cup"]}
    found = text_truth(truth, samples, tokens)
    assert found["a"].tolist() == [0, 1, 1, 0, 0, 0, 0]
    assert found["b"].tolist() == [0, 1, 0]
    assert text_truth(truth, samples, {"c": ["word"]}) == {}


def attributions():
    """Perfect and inverted maps of the example's samples; two draws of random, one of each."""
    rows = []
    maps = {"a": ([1, 0] * 2, [0, 1, 1, 0, 0, 0, 0]), "b": ([0, 1, 0, 0], [0, 1, 0])}
    tokens = {"a": ["A", "red", "cup", ",", "a", "Cup", "."], "b": ["red", "red", "cup"]}
    draws = [("perfect", 1), ("inverted", -1), ("random", 1), ("random", -1)]
    for sample_id, (image, text) in maps.items():
        for method, sign in draws:
            row = {"sample_id": sample_id, "method": method, "tokens": tokens[sample_id]}
            row |= {"image": sign * np.array(image, float), "text": sign * np.array(text, float)}
            row |= {"grid_rows": 2, "grid_columns": 2, "boxes": [], "target": int(sample_id == "a")}
            rows.append(row)
    return pd.DataFrame(rows)


def test_random_draws_are_averaged_and_samples_without_truth_left_out():
    truth, _ = example()
    known = image_truth(truth, grids({"a": (2, 2)}))
    scores = score_maps(attributions(), "image", known).set_index("method")
    assert set(scores["sample_id"]) == {"a"}
    assert scores.loc["perfect", ["pointing", "mass", "mask_auc"]].tolist() == [1, 1, 1]
    assert scores.loc["inverted", ["pointing", "mask_auc"]].tolist() == [0, 0]
    assert scores.loc["random", "mask_auc"] == 0.5
    assert scores.loc["random", "mass"] == 1  # the inverted draw has none


def test_table_has_both_modalities_and_the_subsets_of_predicted_classes():
    truth, samples = example()
    runs = attributions().assign(model="m", seed=0)
    table = tabulate_localisation(runs, samples, truth, resamples=20, seed=0)
    index = ["method", "modality", "metric", "subset"]
    found = table.set_index(index).sort_index()
    for modality in ("image", "text"):
        for metric in ("pointing", "mass", "mask_auc"):
            row = found.loc[("perfect", modality, metric, "all")]
            exact = 0.025 ** (1 / 2)  # of two clusters that agree
            assert row[["value", "low", "high", "n"]].tolist() == [1, exact, 1, 2]
            assert found.loc[("perfect", modality, metric, "pred_1"), "n"] == 1
        assert found.loc[("inverted", modality, "mask_auc", "all"), "value"] == 0
        assert ("inverted", modality, "mass", "all") not in found.index  # no positive relevance


def test_words_are_those_of_each_model():
    truth, samples = example()
    own = attributions()
    # Another tokenizer: the first letter of each text is a token of its own.
    pieces = own["tokens"].map(lambda words: [words[0][0], words[0][1:], *words[1:]])
    weights = own["text"].map(lambda values: [values[0], *values])
    other = own.assign(tokens=pieces, text=weights)
    runs = pd.concat([own.assign(model="words"), other.assign(model="pieces")]).assign(seed=0)
    table = tabulate_localisation(runs, samples, truth, resamples=20, seed=0)
    for name in ("words", "pieces"):
        alone = tabulate_localisation(
            runs[runs["model"] == name], samples, truth, resamples=20, seed=0
        )
        found = table[table["model"] == name].reset_index(drop=True)
        pd.testing.assert_frame_equal(found, alone)
        assert "text" in set(found["modality"])


def test_table_of_a_data_set_without_truth_is_empty_with_its_columns():
    truth, samples = example()
    runs = attributions().assign(model="m", seed=0)
    table = tabulate_localisation(
        runs, samples, truth.iloc[:0].astype(object), resamples=20, seed=0
    )
    assert table.empty
    assert {"method", "modality", "metric", "value", "low", "high", "n"} <= set(table.columns)
