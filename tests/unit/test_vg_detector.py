"""The detector around its network: image sizes, resizing, padding; narrow random weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from mmlens.features.vg_boxes import propose
from mmlens.features.vg_detector import detect, image_scale, load_detector, preprocess, resize
from mmlens.features.vg_network import VGConfig, VGDetector
from mmlens.files import seed_from

NARROW = VGConfig(
    num_classes=5,
    bottleneck_blocks=(1, 1, 1, 1),
    bottleneck_planes=(2, 2, 4, 4),
    stem_channels=4,
    rpn_channels=8,
    test_scale=64,
    test_max_size=100,
    rpn_pre_nms_top_n=200,
    rpn_post_nms_top_n=40,
)


def noise(height, width):
    """A uint8 RGB image of random pixels."""
    random = np.random.default_rng(seed_from("noise", height, width))
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return VGDetector(NARROW).requires_grad_(False)


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (480, 640, (600, 800)),
        (427, 640, (600, 899)),
        (640, 427, (899, 600)),
        (333, 500, (600, 901)),
        (300, 500, (600, 1000)),
        (300, 501, (599, 1000)),
        (100, 1000, (100, 1000)),
        (1200, 1200, (600, 600)),
    ],
)
def test_scaled_sizes(height, width, size):
    scale = image_scale(height, width, VGConfig())
    assert (round(height * scale), round(width * scale)) == size


def test_the_long_side_decides_only_if_its_rounded_length_is_too_long():
    # Scaled by 600 / 2999, the sides of 5000 and 5002 get 1000.3 and 1000.7 pixels.
    assert image_scale(2999, 5000, VGConfig()) == 600 / 2999
    assert image_scale(2999, 5002, VGConfig()) == 1000 / 5002


def bilinear(image, scale, x, y):
    """One sample of linear interpolation at half-pixel centres, borders repeated (float64)."""
    height, width = image.shape[:2]
    x, y = ((at + 0.5) / scale - 0.5 for at in (x, y))
    x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    left, top = int(x), int(y)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    x, y = x - left, y - top
    upper = image[top, left] * (1 - x) + image[top, right] * x
    lower = image[bottom, left] * (1 - x) + image[bottom, right] * x
    return upper * (1 - y) + lower * y


@settings(max_examples=30)
@given(st.integers(1, 9), st.integers(1, 9), st.floats(0.4, 5), st.booleans())
def test_resizing_interpolates_at_pixel_centres(height, width, scale, copy_last):
    image = noise(height, width).astype(np.float32)
    once = resize(image, scale, 1, copy_last=copy_last)
    found = resize(once, scale, 0, copy_last=copy_last)
    assert found.shape == (round(height * scale), round(width * scale), 3)
    for y, x in np.ndindex(found.shape[:2]):
        assert found[y, x] == pytest.approx(bilinear(image, scale, x, y), abs=1e-3)


def test_blob_is_bgr_without_its_means():
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:] = 10, 20, 30
    blob, scale = preprocess(pixels, NARROW)
    assert scale == 1
    assert blob.dtype == torch.float32
    assert blob.shape == (3, 64, 64)
    means = torch.tensor(NARROW.pixel_means_bgr)
    assert torch.allclose(blob, (torch.tensor([30, 20, 10]) - means)[:, None, None].float())
    again, _ = preprocess(Image.fromarray(pixels), NARROW)
    assert torch.equal(blob, again)


@pytest.mark.parametrize("mode", ["L", "RGBA", "LA", "I", "1", "CMYK"])
def test_images_of_other_modes_are_refused(mode):
    with pytest.raises(ValueError, match="convert it to RGB"):
        preprocess(Image.new(mode, (20, 30)), NARROW)


def test_an_image_too_long_for_its_width_is_refused():
    with pytest.raises(ValueError, match=r"5x400 pixels.*cut the image"):
        preprocess(noise(400, 5), NARROW)


@pytest.mark.parametrize(("height", "width"), [(40, 60), (7, 200), (200, 7), (64, 64), (1, 1)])
def test_every_size_gives_36_regions_inside_the_image(detector, height, width):
    found = detect(detector, noise(height, width))
    assert found.boxes.shape == (36, 4)
    assert found.features.shape == (36, 16)
    assert found.objects.shape == found.confidences.shape == found.keep.shape == (36,)
    assert found.objects.dtype == np.int64
    assert 0 <= found.objects.min() <= found.objects.max() < 4
    assert len(set(found.keep.tolist())) == 36
    assert (found.boxes >= 0).all()
    assert (found.boxes <= [width, height, width, height]).all()
    again = detect(detector, noise(height, width))
    assert np.array_equal(again.features, found.features)
    assert np.array_equal(again.boxes, found.boxes)


def with_settings(detector, **changes):
    """The same network with other settings."""
    other = VGDetector(replace(detector.config, **changes))
    other.load_state_dict(detector.state_dict())
    return other.requires_grad_(False)


def count_proposals(detector, image):
    blob, _ = preprocess(image, detector.config)
    outputs = detector.RCNN_rpn(detector.RCNN_base(blob[None]))
    return propose(*outputs, blob.shape[1:], detector.config)[1]


def test_rows_that_only_fill_the_table_are_counted_out(detector):
    # At an IoU of 0.05 few of the proposals on a small image are left, and no class is likely.
    few = with_settings(detector, rpn_nms_thresh=0.05, conf_thresh=0.99)
    count = count_proposals(few, noise(64, 64))
    assert 1 <= count < 36
    found = detect(few, noise(64, 64))
    assert found.valid == count
    assert found.keep.tolist() == list(range(36))
    assert np.isfinite(found.features).all()
    assert (found.features[count:] == found.features[-1]).all()


def test_a_zero_box_that_survives_is_a_region_as_published(detector):
    few = with_settings(detector, rpn_nms_thresh=0.05, nms_thresh=0.999, conf_thresh=0.01)
    count = count_proposals(few, noise(64, 64))
    found = detect(few, noise(64, 64))
    assert count < 36
    # Of the equal zero boxes, one survives.
    assert found.valid == count + 1
    assert (found.keep[: found.valid] >= count).sum() == 1


def test_deltas_are_scaled_and_shifted_before_they_move_a_box(detector):
    changed = with_settings(detector, bbox_stds=(1.0, 2.0, 1.0, 1.0), bbox_means=(0.0, 1.0, 0, 0))
    proposals = torch.tensor([[10.0, 20.0, 19.0, 29.0]])
    deltas = torch.tensor([[0.5, 0.5, 0, 0] * 5])
    boxes = changed.regress(proposals, deltas, (100, 100), scale=2)
    # 0.5 of 10 pixels to the right, 2 * 0.5 + 1 of them down, in pixels of the original.
    assert boxes.shape == (1, 5, 4)
    assert boxes[0, 4].tolist() == [7.5, 20, 12.5, 25]


def test_settings_given_by_the_caller_come_before_those_of_a_file(tmp_path, detector):
    save_file(detector.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"num_classes": 7}')
    loaded = load_detector(tmp_path / "model.safetensors", NARROW)
    image = noise(50, 70)
    assert np.array_equal(detect(loaded, image).features, detect(detector, image).features)


def test_half_precision_weights_are_computed_in_single_precision(tmp_path, detector):
    state = {n: v.half() if v.is_floating_point() else v for n, v in detector.state_dict().items()}
    torch.save({"model": state}, tmp_path / "model.pth")
    loaded = load_detector(tmp_path / "model.pth", NARROW)
    assert all(value.dtype == torch.float32 for value in loaded.parameters())
    assert detect(loaded, noise(50, 70)).features.dtype == np.float32
