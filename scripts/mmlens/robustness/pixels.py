"""Corruptions of images, which act on 8-bit pixels before any model's own preprocessing."""

import numpy as np
import torch
from torchvision.transforms.v2 import functional as F

from ..files import seed_from
from . import register_corruption

REFERENCE = 224  # side of the images for which the sizes of occlusions are given


@register_corruption(
    "gaussian_noise",
    modality="image",
    levels=[0.01, 0.05, 0.1],
    level={"type": "number", "exclusiveMinimum": 0},
)
def gaussian_noise(images, level, keys):
    """Normal noise of standard deviation `level`, of pixels in [0, 1], cut to that range."""
    noise = torch.empty(images.shape)
    for own, key in zip(noise, keys, strict=True):
        rng = np.random.default_rng(seed_from("noise", key))
        rng.standard_normal(dtype=np.float32, out=own.numpy())
    return (images + 255 * level * noise).round_().clamp_(0, 255).to(torch.uint8)


@register_corruption(
    "gaussian_blur",
    modality="image",
    levels=[1, 3, 5],
    level={"type": "integer", "enum": [1, 3, 5, 7, 9, 11, 13, 15, 21, 31, 45, 63]},
)
def gaussian_blur(images, level, keys):
    """Gaussian blur by a kernel of `level` x `level` pixels, an odd number; 1 changes nothing.

    The standard deviation is 0.3 ((level - 1) / 2 - 1) + 0.8, as OpenCV and torchvision derive it.
    ValueError for images that half of the kernel does not fit in: they are mirrored at their edges.
    """
    side = images.shape[-1]
    if level // 2 >= side:
        raise ValueError(
            f"robustness.corruptions.gaussian_blur: found a kernel of {level} for images of {side} "
            f"pixels; expected at most {2 * side - 1}; lower it or raise robustness.size"
        )
    return images if level == 1 else F.gaussian_blur(images, [level, level])


@register_corruption(
    "occlusion",
    modality="image",
    levels=[32, 64],
    level={"type": "integer", "minimum": 1, "maximum": 224},
)
def occlusion(images, level, keys):
    """A black square of `level` pixels of 224, at a place that depends on the image alone.

    In images of S pixels its side is level * S / 224, rounded. Squares of all levels share their
    centre, drawn evenly from the middle half of the image, both ways.
    """
    side = images.shape[-1]
    square = round(level * side / REFERENCE)
    found = images.clone()
    for image, key in zip(found, keys, strict=True):
        centre = np.random.default_rng(seed_from("occlusion", key)).uniform(0.25, 0.75, 2) * side
        y, x = (min(max(round(c - square / 2), 0), side - square) for c in centre)
        image[:, y : y + square, x : x + square] = 0
    return found


@register_corruption(
    "jpeg",
    modality="image",
    levels=[50, 20, 5],
    level={"type": "integer", "minimum": 1, "maximum": 100},
)
def jpeg(images, level, keys):
    """Compression as JPEG of quality `level`, from 1 (worst) to 100."""
    return torch.stack([F.jpeg(image, level) for image in images]) if len(images) else images


@register_corruption(
    "brightness", modality="image", levels=[0.75, 0.5, 0.25], level={"type": "number", "minimum": 0}
)
def brightness(images, level, keys):
    """All pixels times `level`: below 1 darker, above 1 brighter."""
    return F.adjust_brightness(images, level)


@register_corruption(
    "contrast", modality="image", levels=[0.75, 0.5, 0.25], level={"type": "number", "minimum": 0}
)
def contrast(images, level, keys):
    """Distances of all pixels from the mean grey of the image times `level`."""
    return F.adjust_contrast(images, level)


@register_corruption(
    "rotation",
    modality="image",
    levels=[5, 15, 30],
    level={"type": "number", "exclusiveMinimum": 0, "maximum": 180},
)
def rotation(images, level, keys):
    """Rotation by `level` degrees around the middle, one way or the other; corners turn black."""
    turned = [
        F.rotate(image, level * sign(key), interpolation=F.InterpolationMode.BILINEAR)
        for image, key in zip(images, keys, strict=True)
    ]
    return torch.stack(turned) if turned else images


def sign(key):
    """1 or -1, by the key."""
    return 1 if seed_from("rotation", key) % 2 else -1
