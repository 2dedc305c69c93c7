"""Generated questions: reproducible, asked in quads, with answers that the drawn pixels confirm."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmlens.datasets import DATASETS
from mmlens.datasets.audit import audit, check
from mmlens.datasets.generated import make_quad
from mmlens.datasets.generated_questions import NAMED_BY, TABLE, generate, make_questions
from mmlens.datasets.samples import build_samples
from mmlens.datasets.shapes import COLOURS, SHAPES
from mmlens.datasets.truth import decode_mask
from mmlens.table import DataError, task_of

QUADS = {"train": 60, "val": 6, "test": 20}
SIZE = 64


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("questions")
    generate(folder, quads=QUADS, size=SIZE)
    return folder


@pytest.fixture(scope="module")
def tables(root):
    """Samples, truth and quality of the data set."""
    reading = DATASETS.get("generated_questions")({"root": str(root), "quads": QUADS})
    return build_samples(reading, splits=tuple(QUADS), tasks=("answers",))


def contents(folder):
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(root, tmp_path):
    generate(tmp_path / "again", quads=QUADS, size=SIZE)
    generate(tmp_path / "other", quads=QUADS, size=SIZE, seed=1)
    first, again, other = (contents(f) for f in (root, tmp_path / "again", tmp_path / "other"))
    assert again == first
    assert other.keys() == first.keys()
    assert not [name for name in first if first[name] == other[name]]


def test_more_quads_keep_the_first_ones(root, tmp_path):
    generate(tmp_path, quads={"train": 61, "val": 7, "test": 20}, size=SIZE)
    few, many = (pd.read_csv(f / TABLE, dtype=str) for f in (root, tmp_path))
    for split, count in QUADS.items():
        old, new = (t[t["split"] == split].head(4 * count) for t in (few, many))
        assert old["text"].tolist() == new["text"].tolist()
        for one, two in zip(old["image"], new["image"], strict=True):
            assert (root / one).read_bytes() == (tmp_path / two).read_bytes()


def test_each_text_and_each_image_of_a_quad_has_both_of_its_answers(tables):
    samples, _, quality = tables
    assert task_of(samples) == "answers"
    assert samples["split"].value_counts().to_dict() == {s: 4 * n for s, n in QUADS.items()}
    assert quality["duplicates_dropped"].sum() == quality["outside_vocabulary"].sum() == 0
    assert (samples["cluster_id"] == samples["quad_id"]).all()
    for _, quad in samples.groupby("quad_id"):
        both = sorted(quad["label_name"].unique())
        assert len(quad) == 4
        assert len(both) == 2
        for column in ("image", "text"):
            answers = quad.groupby(column)["label_name"].apply(sorted)
            assert answers.tolist() == [both, both]
    # No image is shared between quads, so none crosses splits.
    assert (samples.groupby("image")["quad_id"].nunique() == 1).all()
    assert samples.groupby("group_stratum")["quad_id"].nunique().to_dict() == {
        "colour": 43,
        "shape": 43,
    }


def test_answers_are_spread_over_all_colours_and_all_shapes():
    counts = dict.fromkeys([*COLOURS, *SHAPES], 0)
    for answer in many_answers(1500):
        counts[answer] += 1
    for names in (COLOURS, SHAPES):
        expected = 1500 / len(names)
        assert all(abs(counts[name] - expected) < 4 * np.sqrt(expected) for name in names)


def many_answers(quads):
    """One answer per quad and stratum, without drawing anything."""
    for index in range(quads):
        rng = np.random.default_rng(index)
        _, scenes, _ = make_quad(rng, 64, "swap")
        for asked in NAMED_BY:
            yield make_questions(rng, scenes, asked)[0][0]["answer"]


def test_truth_names_the_object_that_is_asked_about(tables):
    samples, truth, _ = tables
    assert (truth.groupby("sample_id").size() == 3).all()
    named = truth[truth["named"]].set_index("sample_id", verify_integrity=True)
    assert set(named.index) == set(samples["sample_id"])
    for row in samples.itertuples():
        region = named.loc[row.sample_id]
        seen = dict(zip(("colour", "shape"), region["category"].split(), strict=True))
        assert seen == {"colour": row.group_colour, "shape": row.group_shape}
        assert row.label_name == seen[row.group_stratum]
        assert json.loads(row.answers) == {row.label_name: 1}
        ((start, end),) = json.loads(region["word_spans"])
        assert row.text[start:end] == seen[NAMED_BY[row.group_stratum]]
        assert row.label_name not in row.text.split()
        # The image itself tells: the colour of the pixels under the mask.
        pixels = np.asarray(Image.open(row.image)).astype(int)[decode_mask(region)]
        middle = np.median(pixels, axis=0)
        nearest = min(COLOURS, key=lambda name: np.abs(middle - COLOURS[name]).sum())
        assert nearest == row.group_colour


def test_audit_bounds_what_one_modality_and_counts_can_reach(tables):
    samples, truth, _ = tables
    table = audit(samples, truth)
    check(table)
    result = table.set_index(["stratum", "check"])
    assert (result["accuracy"] <= 0.5).all()
    assert (result["passed"] == "yes").all()
    # Of an image both answers are known, if one has seen it; of a text only what is frequent.
    assert (result.xs("image_bound", level="check")["accuracy"] == 0.5).all()
    assert result["n"].to_dict() == {
        (stratum, name): 80 if stratum == "all" else 40 for stratum, name in result.index
    }


def test_leaks_of_the_answer_fail_the_audit(tables):
    samples, truth, _ = tables
    told = samples.assign(text=samples["text"] + " " + samples["label_name"])
    with pytest.raises(DataError) as caught:
        check(audit(told, truth))
    problem = "stratum colour, text_bound: found accuracy 1.0000, expected at most 0.50"
    assert any(line.startswith(problem) for line in caught.value.problems)
    # The asked object's colour or shape counted once more than the others.
    counted = truth.assign(
        category=[
            f"{r.category} {r.category}" if r.named else r.category for r in truth.itertuples()
        ]
    )
    with pytest.raises(DataError) as caught:
        check(audit(samples, counted))
    assert [line.split(":")[0] for line in caught.value.problems] == [
        f"stratum {stratum}, words_and_counts" for stratum in ("all", "colour", "shape")
    ]


def test_bounds_of_soft_scores():
    samples = pd.DataFrame({"text": ["a", "a", "b"], "image_sha256": ["x", "y", "y"]})
    samples["answers"] = ['{"red": 1, "blue": 0.6}', '{"blue": 1}', "{}"]
    samples["split"], samples["sample_id"] = "test", ["0", "1", "2"]
    samples["label"], samples["label_name"] = [0, 1, -1], ["red", "blue", ""]
    table = audit(samples, pd.DataFrame(columns=["sample_id", "category"])).set_index("check")
    assert table.index.tolist() == ["text_bound", "image_bound"]
    # a: blue scores 0.6 and 1; b has no answer.
    assert table.loc["text_bound", "accuracy"] == pytest.approx(1.6 / 3)
    assert table.loc["image_bound", "accuracy"] == pytest.approx(2 / 3)
    none = audit(samples.assign(split="val"), pd.DataFrame(columns=["sample_id", "category"]))
    assert none["accuracy"].isna().all()
    assert (none["passed"] == "").all()
