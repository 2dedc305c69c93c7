"""The cache of features, shard by shard, and its reader."""

import shutil

import numpy as np
import pytest
import torch
from feature_runs import COUNT, images, noise, read, reader, run, samples_of
from transformers import CLIPVisionModelWithProjection

from mmlens.features import get_extractor
from mmlens.features.reader import FeatureReader
from mmlens.table import DataError

__all__ = ["images"]


class Counting:
    """An extractor that counts the images it computes."""

    def __init__(self, extractor):
        self.extractor, self.seen = extractor, 0
        self.extract_plain = extractor.extract
        extractor.extract = self.extract

    def extract(self, images):
        self.seen += len(images)
        return self.extract_plain(images)


def test_second_run_computes_nothing_and_new_images_only_themselves(tmp_path, images):
    samples = samples_of(images)
    first = Counting(get_extractor("pixels", size=32))
    before = read(tmp_path, samples[:5], tmp_path / "cache", first.extractor)
    assert first.seen == 5
    second = Counting(get_extractor("pixels", size=32))
    after = read(tmp_path, samples, tmp_path / "cache", second.extractor)
    assert second.seen == COUNT - 5
    assert np.array_equal(after.features[:5], before.features)
    third = Counting(get_extractor("pixels", size=32))
    run(samples, tmp_path / "cache", third.extractor)
    assert third.seen == 0


def test_a_copy_of_an_image_is_found_by_its_content(tmp_path, images):
    copy = tmp_path / "copy.png"
    shutil.copy(images[0], copy)
    run(samples_of(images), tmp_path / "cache", get_extractor("pixels", size=32))
    again = Counting(get_extractor("pixels", size=32))
    run(samples_of([copy]), tmp_path / "cache", again.extractor)
    assert again.seen == 0


def test_a_changed_setting_or_weight_has_a_cache_of_its_own(tmp_path, images, checkpoints):
    samples = samples_of(images[:2])
    folders = {
        run(samples, tmp_path / "cache", get_extractor("pixels", **settings), dtype=dtype)[1][
            "folder"
        ]
        for settings, dtype in (({}, "float32"), ({"size": 48}, "float32"), ({}, "float16"))
    }
    assert len(folders) == 3
    changed = tmp_path / "clip"
    shutil.copytree(checkpoints["clip"]["weights"], changed)
    before = get_extractor("clip", weights=str(changed)).key()
    model = CLIPVisionModelWithProjection.from_pretrained(changed)
    with torch.no_grad():
        model.vision_model.post_layernorm.bias += 1
    model.save_pretrained(changed)
    assert get_extractor("clip", weights=str(changed)).key() != before


def test_a_changed_image_is_an_error_that_names_it(tmp_path, images):
    samples = samples_of(images)
    noise(99, 50, 50).save(images[1])
    images[4].unlink()
    with pytest.raises(DataError, match="2 problems") as caught:
        run(samples, tmp_path / "cache", get_extractor("pixels", size=32))
    assert "1.png: changed since the samples table was built" in str(caught.value)
    assert "4.png" in str(caught.value)
    assert "--forcerun build_samples" in str(caught.value)


def test_a_shard_without_its_keys_does_not_exist(tmp_path, images):
    """What a kill leaves: arrays whose keys were not written yet."""
    samples = samples_of(images)
    extractor = get_extractor("pixels", size=32)
    expected = read(tmp_path, samples, tmp_path / "cache", extractor)
    folder = next((tmp_path / "cache").glob("pixels-*"))
    (folder / "00002.parquet").unlink()
    (folder / "00001.parquet").unlink()
    (folder / "00001.boxes.npy").unlink()
    again = Counting(get_extractor("pixels", size=32))
    found = read(tmp_path, samples, tmp_path / "cache", again.extractor)
    assert again.seen == COUNT - 3
    assert np.array_equal(found.features, expected.features)


def test_decoded_images_serve_the_next_extractor_of_equal_geometry(tmp_path, images, monkeypatch):
    samples = samples_of(images)
    run(samples, tmp_path / "cache", get_extractor("pixels", size=32))
    for path in images:  # nothing but the kept images can be read now
        path.unlink()
    other = get_extractor("pixels", size=32, patch=8)
    batch = read(tmp_path, samples, tmp_path / "cache", other)
    assert batch.features.shape == (COUNT, 16, 192)
    with pytest.raises(DataError, match=f"{COUNT} problems"):
        run(samples, tmp_path / "cache", get_extractor("pixels", size=32), dtype="float16",
            keep_decoded=False)  # fmt: skip


def test_result_does_not_depend_on_threads_or_shards(tmp_path, images, checkpoints):
    samples = samples_of(images)
    found = [
        read(tmp_path, samples, tmp_path / f"cache{k}", get_extractor("pixels", size=32), **changes)
        for k, changes in enumerate(({}, {"threads": 5}, {"shard": 100}, {"keep_decoded": False}))
    ]
    for other in found[1:]:
        assert np.array_equal(other.features, found[0].features)


def test_reader_maps_files_and_reads_rows_in_any_order(tmp_path, images):
    samples = samples_of(images)
    index, facts = run(samples, tmp_path / "cache", get_extractor("pixels", size=32))
    found = reader(tmp_path, index, facts)
    places = found.places_of(samples["image"])
    assert set(places[:, 0]) == {0, 1, 2}
    order = [5, 0, 6, 0, 3]
    whole, some = found.read(places), found.read(places[order])
    assert np.array_equal(some.features, whole.features[order])
    assert np.array_equal(some.boxes, whole.boxes[order])


def test_reader_names_images_without_features(tmp_path, images):
    index, facts = run(samples_of(images[:2]), tmp_path / "cache", get_extractor("pixels"))
    found = reader(tmp_path, index, facts)
    with pytest.raises(DataError, match=r"6\.png: no features"):
        found.places_of([str(images[0]), str(images[6])])
    shutil.rmtree(facts["folder"])
    with pytest.raises(DataError, match="--forcerun extract_features"):
        FeatureReader(tmp_path / "index.parquet")
