"""36 regions of an image by the Visual Genome detector: preprocessing, detection, checkpoints."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..table import DataError
from ..weights import load_state, read_content, state_of
from .vg_boxes import choose, propose, surviving_confidence
from .vg_network import VGConfig, VGDetector

MIN_SIDE = 3  # pixels of a scaled image that the strides of the network leave something of
# Settings that a checkpoint can carry, with the only value that the network stands for.
SETTINGS = {"pooling_mode": "align", "class_agnostic": False}


@dataclass(frozen=True)
class Detections:
    """The exported regions of one image, K = max_boxes (36) rows in the order of `choose`.

    Attributes
    ----------
    boxes : float32 (K, 4), x1, y1, x2, y2 in pixels of the original image, of the best class
    features : float32 (K, top_channels), of the proposals
    objects : int64 (K,), lines (from 0) of the object vocabulary, which has no background
    confidences : float32 (K,), probabilities of `objects`
    keep : int64 (K,), rows of the proposals
    valid : int, number of rows that are regions; the others, at the end, only fill the table
        of an image with less than K proposals. A zero box that survives is a region.
    """

    boxes: np.ndarray
    features: np.ndarray
    objects: np.ndarray
    confidences: np.ndarray
    keep: np.ndarray
    valid: int


def preprocess(image, config):
    """Image -> what the network reads.

    Parameters
    ----------
    image : RGB image of PIL, or uint8 (height, width, 3)
    config : VGConfig

    Returns
    -------
    blob : float32 tensor (3, H, W), BGR less its means, resized
    scale : float, pixels of the blob per pixel of the image

    Raises
    ------
    ValueError if the image is no RGB image, or too long for its width.
    """
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(
            f"image: found {pixels.dtype} {pixels.shape}, expected uint8 (height, width, 3); "
            f"convert it to RGB"
        )
    height, width = pixels.shape[:2]
    scale = image_scale(height, width, config)
    if round(min(height, width) * scale) < MIN_SIDE:
        raise ValueError(
            f"image of {width}x{height} pixels: scaled to a long side of {config.test_max_size}, "
            f"its short side has less than {MIN_SIDE} pixels; cut the image"
        )
    centred = (pixels[..., ::-1] - np.array(config.pixel_means_bgr)).astype(np.float32)
    # The reference run ends rows differently where both sides scale to whole pixels.
    whole = all(math.isclose(side * scale, round(side * scale)) for side in (height, width))
    for axis in (1, 0):
        centred = resize(centred, scale, axis, copy_last=whole)
    return torch.from_numpy(np.ascontiguousarray(centred.transpose(2, 0, 1))), scale


def image_scale(height, width, config):
    """Scale to the short side test_scale, or to the long side test_max_size where it is less."""
    short, long = sorted((height, width))
    scale = config.test_scale / short
    return config.test_max_size / long if round(scale * long) > config.test_max_size else scale


def resize(image, scale, axis, *, copy_last):
    """Linear interpolation of a float32 array along one axis, as OpenCV's INTER_LINEAR does it.

    Pixel centres lie at halves, nothing is smoothed, and the distance between samples is
    exactly 1 / scale, not the ratio of the rounded sizes (which F.interpolate would take).
    Samples beyond the last pixel copy it, or step to it from the one before, which differs in
    the last bit: the reference does either, and the detector's boxes amplify it 1,000 times.
    """
    size = image.shape[axis]
    at = (np.arange(round(size * scale)) + 0.5) * (1 / scale) - 0.5
    at = np.clip(at.astype(np.float32), 0, size - 1)
    low = np.minimum(at.astype(int), size - 1 if copy_last else max(size - 2, 0))
    high = np.minimum(low + 1, size - 1)
    weight = np.expand_dims(at - low, tuple(range(1, image.ndim - axis)))
    start = np.take(image, low, axis)
    # In float64, rounded once: OpenCV fuses this product and sum.
    return (start + (np.take(image, high, axis) - start) * weight).astype(np.float32)


@torch.inference_mode()
def detect(detector, image):
    """The `Detections` of an RGB image, by a loaded `VGDetector`, on its device."""
    config = detector.config
    blob, scale = preprocess(image, config)
    size = blob.shape[1:]
    base = detector.RCNN_base(blob[None].to(detector.RCNN_cls_score.weight))
    proposals, count = propose(*detector.RCNN_rpn(base), size, config)
    features = detector.features(detector.pool(base, proposals))
    probabilities, deltas = detector.classify(features)
    boxes = detector.regress(proposals, deltas, size, scale)
    confidence = surviving_confidence(probabilities, boxes, config)
    keep = choose(confidence, config)
    best, labels = probabilities[keep, 1:].max(1)
    return Detections(
        boxes=boxes[keep, labels + 1].cpu().numpy(),
        features=features[keep].cpu().numpy(),
        objects=labels.cpu().numpy(),
        confidences=best.cpu().numpy(),
        keep=keep.cpu().numpy(),
        valid=int(((keep < count) | (confidence[keep] > 0)).sum()),
    )


def load_detector(path, config=None):
    """A `VGDetector` with the weights of a checkpoint, ready to detect on the CPU.

    Parameters
    ----------
    path : .safetensors, or a file of torch.save with the weights under "model" or alone
    config : VGConfig; default config.json beside `path`, or else the published sizes

    Raises
    ------
    DataError with everything that is missing from the file, unknown, or of another shape.
    """
    path = Path(path)
    config = config or read_config(path.with_name("config.json"))
    content = read_content(path)
    problems = [
        f"{path}: {key} {content[key]!r}; expected {value!r}"
        for key, value in SETTINGS.items()
        if isinstance(content, dict) and content.get(key, value) != value
    ]
    if problems:
        raise DataError("weights", problems)
    with torch.device("meta"):
        detector = VGDetector(config)
    return load_state(detector, path, state_of(content, path))


def read_config(path):
    """VGConfig of a config.json; the published one where there is no such file."""
    if not path.is_file():
        return VGConfig()
    try:
        return VGConfig.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:
        raise DataError("detector settings", [f"{path}: not a VGConfig ({error})"]) from None
