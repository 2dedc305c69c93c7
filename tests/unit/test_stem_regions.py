"""Regions of annotated objects: pooled as defined, of every object, filed under their boxes."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from mmlens.datasets import DATASETS
from mmlens.datasets.generated import generate
from mmlens.datasets.samples import build_samples
from mmlens.features import get_extractor
from mmlens.features.extract import extract
from mmlens.features.object_boxes import object_boxes
from mmlens.features.reader import FeatureReader
from mmlens.files import write_json
from mmlens.models.inputs import read_pixels
from mmlens.models.layers import Stem
from mmlens.table import DataError, read_samples, write_csv, write_parquet
from mmlens.weights import save_weights

QUADS = {"train": 2, "val": 1, "test": 1}
WIDTH = 16


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder with the tables of generated data and the weights of a stem."""
    folder = tmp_path_factory.mktemp("run")
    generate(folder / "generated", quads=QUADS)
    reading = DATASETS.get("generated")({"root": str(folder / "generated"), "quads": QUADS})
    samples, truth, _ = build_samples(reading)
    write_csv(folder / "samples.csv", samples)
    write_parquet(folder / "truth.parquet", truth)
    torch.manual_seed(0)
    stem = Stem(WIDTH).train()
    with torch.no_grad():  # fresh running means and variances are 0 and 1, which hide mistakes
        for _ in range(30):
            stem(torch.randn(8, 3, 96, 96))
    save_weights(folder / "stem.safetensors", stem)
    return folder


def tables(run):
    return read_samples(run / "samples.csv"), pd.read_parquet(run / "truth.parquet")


def extractor_of(run, truth=None, size=96):
    """The extractor of a run; `truth` (DataFrame) in place of its truth table."""
    path = run / "truth.parquet"
    if truth is not None:
        path = run / "other.parquet"
        write_parquet(path, truth)
    paths = {"samples": str(run / "samples.csv"), "truth": str(path)}
    weights = str(run / "stem.safetensors")
    return get_extractor("stem_regions", weights=weights, size=size, **paths)


def features(tmp_path, run, extractor):
    """(FeatureBatch of all distinct images, how many were computed)."""
    computed, plain = [], extractor.extract
    extractor.extract = lambda images, names: computed.extend(names) or plain(images, names)
    samples = read_samples(run / "samples.csv")
    settings = {"dtype": "float32", "shard": 3, "batch_size": 2, "threads": 1}
    settings |= {"keep_decoded": False, "device": "cpu"}
    index, facts = extract(samples, extractor, cache=tmp_path / "cache", **settings)
    write_parquet(tmp_path / "index.parquet", index)
    write_json(tmp_path / "facts.json", facts)
    reader = FeatureReader(tmp_path / "index.parquet")
    return reader.read(reader.places_of(samples["image"].unique())), len(computed)


def pooled(features, box, points):
    """Mean of bilinear samples of (D, rows, columns) at points x points bin centres of a box."""
    shares = (np.arange(points) + 0.5) / points
    x = box[0] + (box[2] - box[0]) * shares
    y = box[1] + (box[3] - box[1]) * shares
    grid = np.stack(np.meshgrid(x, y), -1).astype(np.float32) * 2 - 1
    sampled = F.grid_sample(
        features[None], torch.from_numpy(grid)[None], padding_mode="border", align_corners=False
    )
    return sampled.mean((2, 3))[0].numpy()


@pytest.mark.parametrize("size", [96, 64])
def test_features_are_the_means_of_the_patches_over_the_boxes(tmp_path, run, size):
    extractor = extractor_of(run, size=size)
    found, _ = features(tmp_path, run, extractor)
    samples, truth = tables(run)
    assert found.features.shape == (len(samples) // 2, 3, WIDTH)
    assert found.valid.all()
    for k, image in enumerate(samples["image"].unique()):
        pixels = torch.from_numpy(read_pixels(image, extractor.geometry).copy())[None]
        with torch.no_grad():
            patches = extractor.network((pixels.float() / 255 - 0.5) / 0.25)[0]
        sample_id = samples.loc[samples["image"] == image, "sample_id"].iloc[0]
        of_image = truth[truth["sample_id"] == sample_id]
        corners = of_image[["x", "y"]].to_numpy(), of_image[["width", "height"]].to_numpy()
        boxes = np.hstack([corners[0], corners[0] + corners[1]]) / 96
        boxes = boxes[np.lexsort(boxes.T[::-1])]
        assert np.allclose(found.boxes[k], boxes)
        expected = [pooled(patches, box, size // 16) for box in boxes]
        assert np.allclose(found.features[k], expected, atol=1e-5)
        assert np.std(expected, axis=0).max() > 0.1


def test_regions_tell_neither_which_object_is_named_nor_the_order_of_the_tables(tmp_path, run):
    samples, truth = tables(run)
    expected, computed = features(tmp_path, run, extractor_of(run))
    assert computed == samples["image"].nunique()
    other = truth.sample(frac=1, random_state=0).assign(named=False, word_spans="[]", category="x")
    found, computed = features(tmp_path, run, extractor_of(run, other))
    assert computed == 0
    assert np.array_equal(found.features, expected.features)
    # The named object is the first of the table in every image, and not the first region.
    boxes = object_boxes(samples, truth)
    named = truth[truth["named"]].merge(samples[["sample_id", "image"]])
    first = [boxes[row.image][0, 0] * 96 == row.x for row in named.itertuples()]
    assert 0 < np.mean(first) < 1


def test_images_with_fewer_regions_and_without_any(tmp_path, run):
    samples, truth = tables(run)
    images = samples["image"].unique()
    of_image = truth.merge(samples[["sample_id", "image"]])["image"]
    last = truth.groupby("sample_id").cumcount() == 2
    other = truth[(of_image != images[1]) & ~(last & (of_image == images[2]))]
    expected, _ = features(tmp_path, run, extractor_of(run))
    found, computed = features(tmp_path, run, extractor_of(run, other))
    assert computed == 2  # the others kept their boxes
    assert found.valid.sum(1).tolist() == [3, 0, 2, *[3] * (len(images) - 3)]
    for values in (found.features, found.boxes):
        assert not values[~found.valid].any()
    assert np.array_equal(found.features[3:], expected.features[3:])
    for region in found.features[2, :2]:
        assert (abs(expected.features[2] - region).max(1) < 1e-4).sum() == 1


def test_a_moved_box_is_computed_again(tmp_path, run):
    samples, truth = tables(run)
    expected, _ = features(tmp_path, run, extractor_of(run))
    shown = samples.loc[samples["image"] == samples["image"].iloc[0], "sample_id"]
    moved = truth["sample_id"].isin(shown) & (truth.groupby("sample_id").cumcount() == 0)
    other = truth.assign(width=truth["width"].where(~moved, truth["width"] / 2))
    found, computed = features(tmp_path, run, extractor_of(run, other))
    assert computed == 1
    changed = abs(found.features[0] - expected.features[0]).max(1) > 1e-4
    assert changed.sum() == 1
    assert np.array_equal(found.features[1:], expected.features[1:])


def test_boxes_are_cut_at_the_border_there_once_and_in_the_image(run):
    samples, truth = tables(run)
    sample_id = samples["sample_id"].iloc[0]
    rows = truth.index[truth["sample_id"] == sample_id]
    other = truth.astype(dict.fromkeys(("x", "y", "width", "height"), float))
    other.loc[rows, ["x", "y", "width", "height"]] = [
        (90.0, -0.4, 6.8, 10),
        (1, 2, 3, 4),
        (1, 2, 3, 4),
    ]
    found = object_boxes(samples[:1], other)[samples["image"].iloc[0]] * 96
    assert np.allclose(found, [[1, 2, 4, 6], [90, 0, 96, 9.6]])
    other.loc[rows[0], "x"] = 92
    other.loc[rows[1], "width"] = -3
    region = re.escape(other["region_id"][rows[0]])
    with pytest.raises(
        DataError, match=f"2 problems.*\n.*object {region}; expected x, y"
    ) as caught:
        object_boxes(samples[:1], other)
    assert "in an image of 96x96 pixels; correct dataset.instances" in str(caught.value)
    with pytest.raises(DataError, match=r"no image has an object.*dataset\.instances"):
        object_boxes(samples, truth[:0])
