"""Drawing of coloured shapes with exact masks, by signed distance fields.

Only numpy: one image of 96x96 with three objects takes below a millisecond per object.
"""

from dataclasses import dataclass

import numpy as np

COLOURS = {
    "red": (208, 44, 44),
    "green": (44, 160, 62),
    "blue": (46, 84, 204),
    "yellow": (228, 204, 48),
    "purple": (142, 52, 178),
    "cyan": (56, 196, 208),
}


@dataclass(frozen=True)
class Object:
    """One object: shape name, colour name, RGB, centre (x, y), radius and angle (radians)."""

    shape: str
    colour: str
    rgb: tuple
    x: float
    y: float
    radius: float
    angle: float


def _box(x, y, half_width, half_height):
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _triangle(x, y, r):
    # Equilateral, circumradius r, apex up: the largest of the three half-plane distances.
    s, c = np.sqrt(3) / 2, 0.5
    return np.maximum(np.maximum(s * x - c * y, -s * x - c * y), y) - r / 2


# All lie inside the disc of radius r, so that objects whose discs do not touch do not overlap.
SHAPES = {
    "circle": lambda x, y, r: np.hypot(x, y) - r,
    "square": lambda x, y, r: _box(x, y, 0.707 * r, 0.707 * r),
    "triangle": _triangle,
    "cross": lambda x, y, r: np.minimum(
        _box(x, y, 0.94 * r, 0.34 * r), _box(x, y, 0.34 * r, 0.94 * r)
    ),
    "ring": lambda x, y, r: np.abs(np.hypot(x, y) - 0.76 * r) - 0.24 * r,
}


def distance(item, size):
    """Signed distance in pixels of every pixel centre to `item`'s outline; (size, size)."""
    rows, columns = np.mgrid[0:size, 0:size] + 0.5
    dx, dy = columns - item.x, rows - item.y
    c, s = np.cos(item.angle), np.sin(item.angle)
    return SHAPES[item.shape](c * dx + s * dy, -s * dx + c * dy, item.radius)


def background(rng, size):
    """Low-frequency grey-ish texture plus pixel noise; (size, size, 3) floats."""
    coarse = rng.uniform(90, 165, (5, 5, 1)) + rng.uniform(-14, 14, (5, 5, 3))
    at = np.linspace(0, 4, size)
    low = np.minimum(at.astype(int), 3)
    weight = (at - low)[:, None, None]
    rows = coarse[low] * (1 - weight) + coarse[low + 1] * weight
    weight = (at - low)[None, :, None]
    smooth = rows[:, low] * (1 - weight) + rows[:, low + 1] * weight
    return smooth + rng.normal(0, 6, (size, size, 3))


def draw(canvas, objects):
    """Paint non-overlapping objects on a copy of `canvas`.

    Returns
    -------
    image : uint8 array (size, size, 3)
    masks : list of bool arrays (size, size), one per object: pixel centres inside its outline
    """
    image, masks = canvas.copy(), []
    for item in objects:
        d = distance(item, len(canvas))
        alpha = np.clip(0.5 - d, 0, 1)[..., None]
        image = image * (1 - alpha) + np.array(item.rgb) * alpha
        masks.append(d < 0)
    return np.clip(np.round(image), 0, 255).astype(np.uint8), masks
