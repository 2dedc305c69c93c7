"""Generated captions: reproducible, and captions, masks and pixels name the same objects."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmlens.datasets import DATASETS
from mmlens.datasets.audit import audit
from mmlens.datasets.generated import CATEGORIES
from mmlens.datasets.generated_captions import ANNOTATIONS, CAPTIONS, generate
from mmlens.datasets.samples import build_samples, class_table
from mmlens.datasets.shapes import COLOURS, SHAPES
from mmlens.datasets.truth import decode_mask
from mmlens.features.stem import patch_words
from mmlens.table import task_of

IMAGES, SIZE = 120, 64
NAMED = re.compile(rf"\ba ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})\b")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captions")
    generate(folder, images=IMAGES, size=SIZE)
    return folder


@pytest.fixture(scope="module")
def reading(root):
    return DATASETS.get("generated_captions")({"root": str(root), "label": "any"})


@pytest.fixture(scope="module")
def tables(reading):
    """Samples, truth and quality of the data set."""
    return build_samples(reading, splits=("train", "val", "test"), tasks=("classes",))


def contents(folder):
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def captions_of(folder):
    """[texts of each image] as the file of captions has them."""
    content = json.loads((folder / ANNOTATIONS["captions"]).read_text())
    annotations = pd.DataFrame(content["annotations"])
    return annotations.groupby("image_id")["caption"].agg(list).tolist()


def test_same_arguments_give_the_same_bytes_and_another_seed_does_not(root, tmp_path):
    generate(tmp_path / "again", images=IMAGES, size=SIZE, label="any")
    generate(tmp_path / "other", images=IMAGES, size=SIZE, seed=1)
    first, again, other = (contents(f) for f in (root, tmp_path / "again", tmp_path / "other"))
    assert again == first
    assert other.keys() == first.keys()
    assert not [name for name in first if first[name] == other[name]]
    assert set(first) == {f"img/{k:06d}.png" for k in range(1, IMAGES + 1)} | set(
        ANNOTATIONS.values()
    )


def test_more_images_keep_the_first_ones(root, tmp_path):
    generate(tmp_path, images=IMAGES + 5, size=SIZE)
    few, many = contents(root), contents(tmp_path)
    assert all(many[name] == few[name] for name in few if name.startswith("img/"))
    assert captions_of(tmp_path)[:IMAGES] == captions_of(root)


def test_files_are_read_back(reading, tables):
    samples, truth, quality = tables
    assert task_of(samples) == "classes"
    assert class_table(reading)["name"].tolist() == CATEGORIES
    assert len(samples) == samples["image"].nunique() == IMAGES
    assert quality["duplicates_dropped"].sum() == quality["without_category"].sum() == 0
    assert (quality["label_rule"] == "any").all()
    assert set(truth["sample_id"]) == set(samples["sample_id"])
    assert "group_category" in samples
    assert "group_gender_proxy" not in samples
    # These checks are of two labels and of answers.
    assert audit(samples, truth).empty


def test_no_image_is_in_two_splits(tables):
    samples, _, quality = tables
    assert set(samples["split"]) == {"train", "val", "test"}
    for column in ("image", "image_sha256"):
        assert (samples.groupby(column)["split"].nunique() == 1).all()
    assert quality["in_other_splits"].sum() == 0
    assert samples["split"].eq("train").mean() == pytest.approx(0.6, abs=0.15)


def test_every_caption_names_exactly_the_objects_shown(tables):
    samples, truth, _ = tables
    shown = truth.groupby("sample_id")["category"].agg(sorted)
    assert set(shown.map(len)) == {1, 2, 3}
    orders = set()
    for row in samples.itertuples():
        captions = json.loads(row.captions)
        assert len(captions) == CAPTIONS
        assert row.text == captions[0]
        assert sorted(json.loads(row.targets)) == shown[row.sample_id]
        for caption in captions:
            named = [" ".join(found) for found in NAMED.findall(caption)]
            assert sorted(named) == shown[row.sample_id]
            orders.add(named == shown[row.sample_id])
    assert orders == {True, False}


def test_masks_agree_with_pixels_and_labels(tables):
    samples, truth, _ = tables
    for row in samples.itertuples():
        pixels = np.asarray(Image.open(row.image)).astype(int)
        masks = {}
        for region in truth[truth["sample_id"] == row.sample_id].itertuples():
            mask = masks[region.category] = decode_mask(region)
            middle = np.median(pixels[mask], axis=0)
            nearest = min(COLOURS, key=lambda name: np.abs(middle - COLOURS[name]).sum())
            assert nearest == region.category.split()[0]
            assert region.named
        assert sum(masks.values()).max() == 1  # they do not overlap
        assert masks[row.label_name].sum() == max(mask.sum() for mask in masks.values())


def test_the_stem_learns_colours_and_shapes_from_the_masks(tables):
    samples, truth, _ = tables
    train = samples[samples["split"] == "train"].reset_index(drop=True)
    targets, words = patch_words(train, truth, (SIZE // 16, SIZE // 16))
    assert words == sorted([*COLOURS, *SHAPES])
    # A patch is named by two words or none; most images have one that an object covers enough.
    assert set(targets.sum(1).ravel()) == {0, 2}
    assert targets.any((1, 2, 3)).mean() > 0.5


def test_one_object_is_named_as_in_a_prompt_and_a_list_ends_with_and(root):
    texts = [text for captions in captions_of(root) for text in captions]
    by_count = {count: [t for t in texts if len(NAMED.findall(t)) == count] for count in (1, 2, 3)}
    assert any(NAMED.fullmatch(text) for text in by_count[1])
    assert not any(" and " in text for text in by_count[1])
    assert all(text.count(" and a ") == 1 for count in (2, 3) for text in by_count[count])
