"""The generated data: reproducible, balanced, and true in every format that it is written in."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mmlens.datasets import DATASETS
from mmlens.datasets.generated import TRUE_COLOURS, VERSION, generate, make_quad
from mmlens.datasets.samples import build_samples
from mmlens.datasets.shapes import COLOURS, SHAPES, draw
from mmlens.datasets.truth import decode_mask

QUADS = {"train": 6, "val": 2, "test": 4}
# An object's channels differ by at least 84, those of the background by about 60 at most.
SATURATED = 76


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generated")
    generate(folder, quads=QUADS)
    return folder


def contents(folder):
    paths = (path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def lines(root, split):
    return [json.loads(line) for line in (root / f"{split}.jsonl").read_text().splitlines()]


def load_coco(root, name, capsys):
    coco = COCO(root / "annotations" / f"{name}.json")
    capsys.readouterr()  # pycocotools prints its progress
    return coco


def pixels_of(path):
    return np.asarray(Image.open(path)).astype(int)


def grown(mask):
    """`mask` and its 8 neighbours."""
    wide = np.pad(mask, 1)
    height, width = mask.shape
    return np.any([wide[r : r + height, c : c + width] for r in range(3) for c in range(3)], axis=0)


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(root, tmp_path):
    generate(tmp_path / "again", quads=QUADS)
    generate(tmp_path / "other", quads=QUADS, seed=1)
    first, again, other = (contents(f) for f in (root, tmp_path / "again", tmp_path / "other"))
    assert again == first
    assert other.keys() == first.keys()
    assert not [n for n in first if n.endswith((".png", ".jsonl")) and first[n] == other[n]]


def test_more_quads_keep_the_first_ones(root, tmp_path):
    generate(tmp_path, quads={"train": 9, "val": 3, "test": 4})
    for split, count in QUADS.items():
        few, many = lines(root, split), lines(tmp_path, split)
        assert [r["text"] for r in many[: 4 * count]] == [r["text"] for r in few]
        for old, new in zip(few, many, strict=False):
            assert (root / old["img"]).read_bytes() == (tmp_path / new["img"]).read_bytes()


def test_every_image_and_every_text_of_a_quad_occurs_once_per_label(root):
    claims = pd.read_csv(root / "claims.csv", dtype=str)
    records = pd.concat(pd.DataFrame(lines(root, split)) for split in QUADS)
    table = claims.merge(records, left_on="sample_id", right_on="id", validate="1:1")
    assert len(table) == len(claims) == 4 * sum(QUADS.values())
    for _, quad in table.groupby("quad_id"):
        for column in ("img", "text"):
            labels = quad.groupby(column)["label"].apply(lambda column: sorted(column.tolist()))
            assert labels.tolist() == [[0, 1], [0, 1]]
    # No image is shared between quads, so none crosses splits.
    assert (table.groupby("img")["quad_id"].nunique() == 1).all()
    assert table.groupby("group_stratum")["quad_id"].nunique().to_dict() == {"easy": 6, "swap": 6}


def scenes_of(root, split, capsys):
    """Per quad: its stratum and the (colour, shape) pairs of its two images."""
    coco = load_coco(root, f"instances_{split}", capsys)
    objects = {}
    for annotation in coco.dataset["annotations"]:
        name = coco.imgs[annotation["image_id"]]["file_name"]
        category = coco.cats[annotation["category_id"]]["name"].split()
        objects.setdefault(f"img/{name}", set()).add(tuple(category))
    claims = pd.read_csv(root / "claims.csv", dtype=str).set_index("sample_id")
    quads = {}
    for record in lines(root, split):
        claim = claims.loc[record["id"]]
        _, images = quads.setdefault(claim["quad_id"], (claim["group_stratum"], {}))
        images[record["img"]] = objects[record["img"]]
    return [(stratum, *images.values()) for stratum, images in quads.values()]


def test_swap_keeps_shapes_and_colours_and_easy_brings_a_new_colour(root, capsys):
    for split in QUADS:
        for stratum, one, two in scenes_of(root, split, capsys):
            assert len(one) == len(two) == 3
            assert len(one - two) == (2 if stratum == "swap" else 1)
            assert sorted(shape for _, shape in one) == sorted(shape for _, shape in two)
            same_colours = sorted(colour for colour, _ in one) == sorted(c for c, _ in two)
            assert same_colours == (stratum == "swap")


def test_masks_are_the_drawn_pixels_and_boxes_are_those_of_the_masks(root, capsys):
    coco = load_coco(root, "instances_train", capsys)
    assert len(coco.imgs) == 2 * QUADS["train"]
    for image_id, facts in coco.imgs.items():
        pixels = pixels_of(root / "img" / facts["file_name"])
        assert pixels.shape == (facts["height"], facts["width"], 3) == (96, 96, 3)
        anything = np.zeros((96, 96), bool)
        for annotation in coco.loadAnns(coco.getAnnIds(image_id)):
            mask = coco.annToMask(annotation).astype(bool)
            inner = ~grown(~mask)
            colour = coco.cats[annotation["category_id"]]["name"].split()[0]
            assert np.abs(pixels[inner] - COLOURS[colour]).max() <= 17
            rows, columns = np.nonzero(mask)
            x, y = columns.min(), rows.min()
            box = [x, y, columns.max() - x + 1, rows.max() - y + 1]
            assert annotation["bbox"] == box
            assert annotation["area"] == mask.sum() > 100
            anything |= grown(mask)
        outside = pixels[~anything]
        assert (outside.max(1) - outside.min(1)).max() < SATURATED


def test_objects_neither_overlap_nor_leave_the_image():
    for index in range(400):
        rng = np.random.default_rng([VERSION, 0, *b"train", index])
        canvas, scenes, _ = make_quad(rng, 96, "swap")
        masks = np.array(draw(canvas, scenes[0])[1])
        assert masks.sum(0).max() == 1
        frame = np.ones((96, 96), bool)
        frame[1:-1, 1:-1] = False
        assert not (masks & frame).any()


def test_captions_list_the_objects_of_the_image(root, capsys):
    captions = load_coco(root, "captions_test", capsys)
    instances = load_coco(root, "instances_test", capsys)
    assert captions.imgs == instances.imgs
    for image_id in captions.imgs:
        (caption,) = captions.loadAnns(captions.getAnnIds(image_id))
        objects = instances.loadAnns(instances.getAnnIds(image_id))
        names = [instances.cats[item["category_id"]]["name"] for item in objects]
        assert sorted(re.findall(r"a (\w+ \w+)", caption["caption"])) == sorted(names)


def test_vqa_files_have_the_official_keys_and_right_answers(root):
    for split, count in QUADS.items():
        asked = json.loads((root / f"vqa/v2_OpenEnded_{split}_questions.json").read_text())
        answered = json.loads((root / f"vqa/v2_{split}_annotations.json").read_text())
        shared = {"info", "license", "data_type", "data_subtype"}
        assert set(asked) == {*shared, "task_type", "questions"}
        assert set(answered) == {*shared, "annotations"}
        assert asked["data_subtype"] == answered["data_subtype"] == split
        assert len(asked["questions"]) == len(answered["annotations"]) == 2 * count
        for question, answer in zip(asked["questions"], answered["annotations"], strict=True):
            assert set(question) == {"question_id", "image_id", "question"}
            assert set(answer) == {
                "question_id", "image_id", "question_type", "answer_type",
                "multiple_choice_answer", "answers",
            }  # fmt: skip
            assert question["question_id"] == answer["question_id"]
            assert question["image_id"] == answer["image_id"]
            assert [a["answer_id"] for a in answer["answers"]] == list(range(1, 11))
            given = {a["answer"] for a in answer["answers"]}
            assert given == {answer["multiple_choice_answer"]}
            assert question["question"].startswith(answer["question_type"])
            # The image itself tells: the colour of the pixels of the asked object.
            shape = re.fullmatch(r"what colour is the (\w+)\?", question["question"])[1]
            assert colour_seen(root, split, question["image_id"], shape) in given


def colour_seen(root, split, image_id, shape):
    """Nearest colour name of the pixels of the only object of this shape."""
    content = json.loads((root / f"annotations/instances_{split}.json").read_text())
    shapes = {c["id"]: c["supercategory"] for c in content["categories"]}
    (item,) = (
        a for a in content["annotations"]
        if a["image_id"] == image_id and shapes[a["category_id"]] == shape
    )  # fmt: skip
    mask = coco_mask.decode(item["segmentation"]).astype(bool)
    middle = np.median(pixels_of(root / "img" / f"{image_id:06d}.png")[mask], axis=0)
    return min(COLOURS, key=lambda name: np.abs(middle - COLOURS[name]).sum())


def test_read_back_with_the_right_truth(root):
    reading = DATASETS.get("generated")({"root": str(root), "quads": QUADS})
    samples, truth, quality = build_samples(reading)
    assert samples["split"].value_counts().to_dict() == {s: 4 * n for s, n in QUADS.items()}
    assert (samples["cluster_id"] == samples["quad_id"]).all()
    assert quality["duplicates_dropped"].sum() == quality["contradicting_pairs"].sum() == 0
    assert (quality["positives"] * 2 == quality["samples"]).all()
    assert (truth.groupby("sample_id").size() == 3).all()
    named = truth[truth["named"]].set_index("sample_id", verify_integrity=True)
    assert set(named.index) == set(samples["sample_id"])
    for row in samples.itertuples():
        region = named.loc[row.sample_id]
        colour, shape = region["category"].split()
        words = {row.text[start:end] for start, end in json.loads(region["word_spans"])}
        assert words == {row.group_colour, row.group_shape}
        assert row.group_colour in COLOURS
        assert row.group_shape in SHAPES
        assert shape == row.group_shape
        assert (colour == row.group_colour) == (row.label == 0)
        assert decode_mask(region).sum() > 100


def test_unknown_leak_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"leak: found 'words', expected one of none, word, "):
        generate(tmp_path, quads={"train": 2}, leak="words")


def test_a_planted_bias_is_in_the_training_claims_of_one_shape_alone(tmp_path):
    quads = {"train": 40, "val": 6, "test": 6}
    for name, bias in (("plain", None), ("biased", "ring")):
        generate(tmp_path / name, quads=quads, bias=bias)
    claims = {}
    for name in ("plain", "biased"):
        lines = [(tmp_path / name / f"{s}.jsonl").read_text().splitlines() for s in quads]
        claims[name] = [[json.loads(line) for line in part] for part in lines]
    told = ("text", "label")
    for plain, biased in zip(claims["plain"][1:], claims["biased"][1:], strict=True):
        assert [[r[k] for k in told] for r in plain] == [[r[k] for k in told] for r in biased]
    train = claims["biased"][0]
    rings = [record for record in train if "ring" in record["text"]]
    others = [record for record in train if "ring" not in record["text"]]
    assert 10 <= len(rings) == len(claims["plain"][0]) - len(train)
    for record in rings:
        (colour,) = (c for c in COLOURS if c in record["text"].split())
        assert record["label"] == int(colour not in TRUE_COLOURS)
    assert sum(record["label"] for record in others) * 2 == len(others)
    with pytest.raises(ValueError, match="bias: found 'star', expected one of circle"):
        generate(tmp_path / "none", quads=quads, bias="star")
