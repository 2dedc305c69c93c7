"""Extractors, with small checkpoints in the real formats: geometry, features and weights."""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import SHARED
from feature_runs import COUNT, images, noise, read, reader, run, samples_of
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.models import ResNet152_Weights, resnet152
from transformers import AutoImageProcessor

from mmlens.features import EXTRACTORS, get_extractor
from mmlens.features.base import Geometry
from mmlens.features.boxes import patch_boxes
from mmlens.features.lxmert_rows import read_tsv
from mmlens.features.vg_detector import detect
from mmlens.models.inputs import read_pixels
from mmlens.models.layers import Stem
from mmlens.table import DataError
from mmlens.weights import save_weights

__all__ = ["images"]

torch.set_num_threads(1)


# --- geometry: the same pixels as the published processors give


@pytest.mark.parametrize("size", [(60, 90), (97, 64), (40, 40), (33, 71), (301, 64)])
def test_geometry_gives_the_pixels_of_the_processors(checkpoints, size):
    image = noise(3, *size)
    for name in ("clip", "dinov2", "siglip2"):
        extractor = get_extractor(name, **checkpoints[name])
        folder = checkpoints[name]["weights"]
        processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
        plain = processor(image, do_rescale=False, do_normalize=False, return_tensors="np")
        found = extractor.geometry.apply(image)
        assert np.array_equal(found, plain["pixel_values"][0]), name


@pytest.mark.parametrize("size", [(500, 375), (231, 640), (640, 427), (235, 239)])
def test_geometry_of_resnet_is_the_preset_of_its_weights(size):
    image = noise(4, *size)
    preset = ResNet152_Weights.IMAGENET1K_V2.transforms()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (preset.mean, preset.std))
    expected = ((preset(image) * std + mean) * 255).round()
    found = get_extractor_class("resnet").geometry.apply(image)
    assert np.array_equal(found, expected.numpy().astype(np.uint8))


def get_extractor_class(name):
    from mmlens.features import EXTRACTORS

    return EXTRACTORS.get(name)


@given(st.integers(20, 400), st.integers(20, 400), st.sampled_from([None, 24, 32]))
def test_windows_lie_in_the_image_and_have_the_shape_of_the_result(width, height, shortest):
    geometry = Geometry(24, 24, shortest_edge=shortest)
    x1, y1, x2, y2 = geometry.window(width, height)
    assert 0 <= x1 < x2 <= 1
    assert 0 <= y1 < y2 <= 1
    if shortest:
        sides = ((x2 - x1) * width, (y2 - y1) * height)
        resized = geometry.resized(width, height)
        assert sides == pytest.approx((24 * width / resized[0], 24 * height / resized[1]))


def test_patch_boxes_are_row_by_row_and_fill_the_window():
    boxes = patch_boxes((2, 3), (0.1, 0.2, 0.7, 0.6))
    assert boxes[0] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert boxes[1] == pytest.approx([0.3, 0.2, 0.5, 0.4])
    assert boxes[5] == pytest.approx([0.5, 0.4, 0.7, 0.6])


# --- what extractors compute


def test_pixels_are_the_patches_of_the_image(tmp_path):
    path = tmp_path / "a.png"
    noise(0, 48, 32).resize((32, 32)).save(path)
    samples = samples_of([path])
    batch = read(tmp_path, samples, tmp_path / "cache", get_extractor("pixels", size=32))
    image = np.asarray(Image.open(path), np.float32) / 127.5 - 1
    assert batch.features.shape == (1, 4, 768)
    assert np.allclose(batch.features[0, 1], image[:16, 16:].reshape(-1))
    assert np.allclose(batch.boxes[0, 2], [0, 0.5, 0.5, 1])
    assert batch.valid.all()


@pytest.mark.parametrize("name", ["clip", "dinov2", "siglip2"])
def test_vision_transformers_give_the_stock_models_patches(tmp_path, images, checkpoints, name):
    folder = checkpoints[name]["weights"]
    samples = samples_of(images)
    extractor = get_extractor(name, **checkpoints[name])
    index, facts = run(samples, tmp_path / "cache", extractor)
    found = reader(tmp_path, index, facts).read(
        reader(tmp_path, index, facts).places_of(samples["image"])
    )
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    stock = type(extractor).architecture.from_pretrained(folder).eval()
    inputs = processor([Image.open(path) for path in images], return_tensors="pt")
    with torch.no_grad():
        output = stock(**inputs)
    expected = output.last_hidden_state[:, -16:]
    assert np.allclose(found.features, expected.numpy(), atol=1e-5)
    pooled = output.image_embeds if name == "clip" else output.pooler_output
    stored = np.load(f"{facts['folder']}/00000.pooled.npy")
    assert np.allclose(stored, pooled[:3].numpy(), atol=1e-5)
    assert facts["grid"] == (4, 4)


def test_resnet_grid_averages_to_the_pooled_features_of_torchvision(images, checkpoints):
    extractor = get_extractor("resnet", **checkpoints["resnet"])
    pixels = torch.from_numpy(np.stack([extractor.geometry.apply(Image.open(images[0]))]))
    stock = resnet152()
    stock.load_state_dict(torch.load(checkpoints["resnet"]["weights"], weights_only=True))
    stock.fc = torch.nn.Identity()
    preset = ResNet152_Weights.IMAGENET1K_V2.transforms()
    with torch.no_grad():
        found = extractor.extract(pixels)
        expected = stock.eval()(preset(Image.open(images[0]))[None])
    assert found["features"].shape == (1, 36, 2048)
    assert np.allclose(found["pooled"], expected.numpy(), rtol=1e-3, atol=1e-4)


def test_fasterrcnn_keeps_the_detections_of_torchvision(images, checkpoints):
    extractor = get_extractor("fasterrcnn", **checkpoints["fasterrcnn"])
    image = torch.from_numpy(np.asarray(Image.open(images[2])).transpose(2, 0, 1).copy())
    with torch.no_grad():
        found = extractor.detect(image)
        expected = extractor.network([image.float() / 255])[0]
    count = len(expected["boxes"])
    assert found["valid"].sum() == count > 0
    height, width = image.shape[1:]
    scaled = found["boxes"][:count] * [width, height, width, height]
    assert np.allclose(scaled, expected["boxes"].numpy(), atol=0.05)
    assert np.array_equal(found["objects"][:count], expected["labels"].numpy())
    assert found["features"].shape == (36, 1024)
    assert (found["features"][count:] == 0).all()


def test_fasterrcnn_vg_gives_the_regions_of_the_detector(tmp_path, images, checkpoints):
    samples = samples_of(images)
    extractor = get_extractor("fasterrcnn_vg", **checkpoints["fasterrcnn_vg"])
    found = read(tmp_path, samples, tmp_path / "cache", extractor)
    assert found.features.shape == (COUNT, 36, 16)
    for k, path in enumerate(images):
        with Image.open(path) as image:
            expected = detect(extractor.detector, image)
            size = [*image.size, *image.size]
        count = expected.valid
        assert found.valid[k].sum() == count > 0
        assert np.array_equal(found.features[k, :count], expected.features[:count])
        assert np.allclose(found.boxes[k, :count] * size, expected.boxes[:count], atol=1e-3)
        assert not found.features[k, count:].any()


@pytest.mark.skipif(not SHARED.is_dir(), reason="the region features are not on this machine")
def test_lxmert_rows_are_found_by_the_name_of_the_image(tmp_path):
    folder = SHARED / "data/lxmert_vg36"
    paths = sorted((folder / "train2014").glob("*.jpg"))
    table = str(folder / "train2014_obj36.tsv")
    found = read(
        tmp_path, samples_of(paths), tmp_path / "cache", get_extractor("lxmert_tsv", table=table)
    )
    rows = {row.img_id: row for row in read_tsv(table)}
    assert len(paths) == len(rows) == 10
    for k, path in enumerate(paths):
        assert np.array_equal(found.features[k], rows[path.stem].features)
        assert np.allclose(
            found.boxes[k, :, 2] * rows[path.stem].size[0], rows[path.stem].boxes[:, 2]
        )
    unknown = tmp_path / "unknown.png"
    noise(0, 20, 20).save(unknown)
    with pytest.raises(DataError, match=r"no row of unknown"):
        read(
            tmp_path,
            samples_of([unknown]),
            tmp_path / "cache",
            get_extractor("lxmert_tsv", table=table),
        )
    for settings, problem in (({}, "not set"), ({"table": "nowhere.tsv"}, "no such file")):
        with pytest.raises(DataError, match=problem):
            get_extractor("lxmert_tsv", **settings)


def test_stem_gives_the_patches_that_models_start_from(tmp_path, images):
    torch.manual_seed(0)
    stem = Stem(24)
    stem.train()
    with torch.no_grad():  # fresh running means and variances are 0 and 1, which hide mistakes
        for seed in range(30):
            stem(torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(seed)))
    stem.eval()
    save_weights(tmp_path / "stem.safetensors", stem)
    extractor = get_extractor("stem", weights=str(tmp_path / "stem.safetensors"), size=64)
    found = read(tmp_path, samples_of(images), tmp_path / "cache", extractor)
    pixels = np.stack([read_pixels(path, Geometry(64, 64)) for path in images])
    with torch.no_grad():
        maps = stem((torch.from_numpy(pixels).float() / 255 - 0.5) / 0.25)
    assert found.features.shape == (COUNT, 16, 24)
    expected = maps.flatten(2).transpose(1, 2).numpy()
    assert np.allclose(found.features, expected, atol=1e-5)
    assert found.features.std() > 0.1


# --- weights that cannot be used


def test_no_extractor_runs_without_its_weights(tmp_path):
    for name in ("resnet", "fasterrcnn"):
        with pytest.raises(DataError, match=f"features.settings.{name}.weights: not set"):
            get_extractor(name)
        with pytest.raises(DataError, match="no such file"):
            get_extractor(name, weights=str(tmp_path / "missing.pth"))


def test_incomplete_weights_name_every_tensor(tmp_path, checkpoints):
    state = torch.load(checkpoints["resnet"]["weights"], weights_only=True)
    del state["layer4.2.conv3.weight"]
    state["extra"], state["fc.bias"] = torch.zeros(1), torch.zeros(3)
    torch.save({"state_dict": state}, tmp_path / "broken.pth")
    with pytest.raises(DataError, match="3 problems") as caught:
        get_extractor("resnet", weights=str(tmp_path / "broken.pth"))
    for text in ("no layer4.2.conv3.weight", "unexpected extra", "fc.bias has shape"):
        assert text in str(caught.value)
    folder = tmp_path / "clip"
    shutil.copytree(checkpoints["clip"]["weights"], folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(DataError, match=r"no tensor .*layers\.2"):
        get_extractor("clip", weights=str(folder))


def test_a_pickle_with_code_is_refused(tmp_path):
    torch.save({"model": {"x": print}}, tmp_path / "evil.pth")
    with pytest.raises(DataError, match="no table of tensors"):
        get_extractor("resnet", weights=str(tmp_path / "evil.pth"))


def test_a_network_of_another_kind_is_refused(tmp_path, checkpoints):
    """Its class would leave out the register tokens."""
    folder = tmp_path / "registers"
    shutil.copytree(checkpoints["dinov2"]["weights"], folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "dinov2_with_registers"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="found dinov2_with_registers, expected dinov2"):
        get_extractor("dinov2", weights=str(folder))


def test_registry_lists_all_extractors():
    names = EXTRACTORS.names()
    assert {"pixels", "resnet", "clip", "dinov2", "siglip2", "fasterrcnn"} <= set(names)
    with pytest.raises(ValueError, match="unknown extractor 'resnet50': did you mean resnet"):
        get_extractor("resnet50")
