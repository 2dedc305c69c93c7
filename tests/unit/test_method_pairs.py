"""Pairs of methods: who is better follows from paired differences of samples, not from means."""

import numpy as np
import pandas as pd
import pytest

from mmlens.evaluation.paired import bca_interval, holm, sign_flip_p
from mmlens.perturbation.method_pairs import COLUMNS, compare_methods

STEPS = (0, 0.5, 1)
COUNT = 60


def perturbation(levels, directions=("positive", "negative"), modalities=("image", "text")):
    """Curves of samples of very different height, on which methods differ by a little.

    levels : {method: how much lower its curve is}
    """
    rng = np.random.default_rng(0)
    height = rng.uniform(0.2, 0.8, COUNT)
    rows = []
    for modality in modalities:
        for direction in directions:
            for method, lower in levels.items():
                middle = height - lower + 0.01 * rng.normal(size=COUNT)
                for k in range(COUNT):
                    for step, value in zip(STEPS, (1, middle[k], 0), strict=True):
                        rows.append((f"s{k}", method, modality, direction, step, value))
    columns = ["sample_id", "method", "modality", "direction", "fraction", "probability"]
    frame = pd.DataFrame(rows, columns=columns).assign(
        operator="token_drop", procedure="deletion", protocol="default"
    )
    return frame.assign(accuracy=1.0, logit=0.0, model="m", seed=0)


def facts(flags="", sample_id="s0"):
    samples = pd.DataFrame({"sample_id": [f"s{k}" for k in range(COUNT)]})
    samples["cluster_id"] = [f"c{k // 2}" for k in range(COUNT)]
    row = {"sample_id": sample_id, "method": "good", "flags": flags, "model": "m", "seed": 0}
    return pd.DataFrame([row]), samples


def compared(runs, flags="", **options):
    attributions, samples = facts(flags)
    return compare_methods(runs, attributions, samples, resamples=200, seed=0, **options)


LEVELS = {"random": 0.0, "good": 0.05, "alike": 0.05}


def test_a_small_difference_on_every_sample_is_seen_whatever_their_spread():
    table = compared(perturbation(LEVELS))
    assert list(table.columns) == COLUMNS
    index = ["modality", "direction", "method_a", "method_b"]
    found = table.set_index(index)["verdict"].sort_index()
    for modality in ("image", "text"):
        positive, negative = (found.loc[modality, d] for d in ("positive", "negative"))
        # a lower curve is better when the most relevant tokens go first, else worse
        assert positive["good", "random"] == "A better"
        assert negative["good", "random"] == "B better"
        assert positive["alike", "good"] == negative["alike", "good"] == "not separable"
    assert (table["n"] == COUNT).all()
    assert (table["clusters"] == COUNT // 2).all()


def test_samples_of_constant_maps_are_counted_of_either_modality_where_both_go():
    runs = perturbation(LEVELS, modalities=("image", "joint"))
    found = compared(runs, flags="image constant").set_index(["modality", "method_a", "method_b"])
    flagged = found.loc[(slice(None), "alike", "good"), "flagged"]
    assert flagged.tolist() == [1] * 4
    assert not found.loc[(slice(None), "alike", "random"), "flagged"].any()


def test_what_is_good_in_a_deletion_is_bad_in_an_insertion():
    table = compared(perturbation(LEVELS).assign(procedure="insertion"))
    found = table.set_index(["direction", "method_a", "method_b"])["verdict"].sort_index()
    assert set(found["positive", "good", "random"]) == {"B better"}
    assert set(found["negative", "good", "random"]) == {"A better"}


def test_numbers_are_those_of_the_differences_of_areas():
    runs = perturbation(LEVELS, ["positive"])
    table = compared(runs)
    image = runs[runs["modality"] == "image"]
    middle = image[image["fraction"] == 0.5].pivot(
        index="sample_id", columns="method", values="probability"
    )
    _, samples = facts()
    clusters = middle.index.map(samples.set_index("sample_id")["cluster_id"])
    # trapezoids: the middle of three points counts half
    difference = 50 * (middle["good"] - middle["random"]).to_numpy()
    row = table.set_index(["modality", "method_a", "method_b"]).loc[("image", "good", "random")]
    expected = bca_interval(difference, clusters, 200, seed=0)
    names = ["difference", "difference_low", "difference_high"]
    assert row[names].tolist() == pytest.approx(list(expected))
    assert row["difference"] == pytest.approx(row["auc_a"] - row["auc_b"])
    assert row["p"] == sign_flip_p(difference, clusters, 10_000, seed=0)


def test_a_family_is_all_pairs_and_modalities_of_one_direction():
    table = compared(perturbation(LEVELS))
    for _, family in table.groupby("direction"):
        assert len(family) == 6
        assert family["p_holm"].tolist() == pytest.approx(holm(family["p"]).tolist())


def test_many_methods_can_still_be_told_apart():
    levels = {"random": 0.0, **{f"method_{k:02}": 0.2 for k in range(20)}}
    table = compared(perturbation(levels, ["positive"]))
    assert len(table) == 2 * 210
    assert (table.loc[table["method_b"] == "random", "verdict"] == "A better").all()


def test_samples_whose_order_is_random_are_counted():
    table = compared(perturbation(LEVELS), "image constant; text 3 tokens")
    counted = table.set_index(["modality", "direction", "method_a", "method_b"])["flagged"]
    assert counted["image", "positive", "good", "random"] == 1
    assert counted["image", "positive", "alike", "random"] == 0
    assert counted["text", "positive", "good", "random"] == 0


def test_order_of_rows_does_not_matter():
    runs = perturbation(LEVELS)
    index = ["modality", "direction", "method_a", "method_b"]
    shuffled = runs.sort_values(["fraction", "modality", "sample_id"], kind="stable")
    first, second = (compared(r).set_index(index).sort_index() for r in (runs, shuffled))
    pd.testing.assert_frame_equal(first, second.loc[first.index])


def test_other_scores_are_families_of_their_own():
    table = compared(perturbation(LEVELS), scores=("probability", "accuracy"))
    of_accuracy = table[table["score"] == "accuracy"]
    assert (of_accuracy["difference"] == 0).all()
    assert (of_accuracy["p_holm"] == 1).all()
    assert (of_accuracy["verdict"] == "not separable").all()


def test_one_method_has_no_pairs():
    table = compared(perturbation({"random": 0.0}))
    assert table.empty
    assert list(table.columns) == COLUMNS


def test_a_method_without_some_samples_is_an_error_that_counts_them():
    runs = perturbation(LEVELS)
    runs = runs[(runs["method"] != "good") | (runs["sample_id"] != "s3")]
    with pytest.raises(ValueError, match="of 60 samples there is no area of good 1"):
        compared(runs)
