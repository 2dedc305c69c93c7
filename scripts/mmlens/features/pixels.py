"""The plain baseline: the raw pixels of each patch, nothing learned."""

import numpy as np

from . import register_extractor
from .base import Extractor, Geometry


@register_extractor("pixels")
class Pixels(Extractor):
    """Patches of 16 x 16 pixels of the stretched image, scaled to [-1, 1].

    A token holds its patch row by row, the three colours of a pixel side by side.
    """

    def __init__(self, size=96, patch=16):
        if size % patch:
            raise ValueError(f"features.settings.pixels: size {size} is no multiple of {patch}")
        self.geometry = Geometry(size, size)
        self.patch = patch
        self.grid = (size // patch, size // patch)
        self.tokens = self.grid[0] * self.grid[1]
        self.width = 3 * patch * patch

    def settings(self):
        return {"patch": self.patch}

    def extract(self, images):
        pixels = images.cpu().numpy().astype(np.float32) / 127.5 - 1
        rows, columns = self.grid
        cells = pixels.reshape(len(pixels), 3, rows, self.patch, columns, self.patch)
        cells = cells.transpose(0, 2, 4, 3, 5, 1)
        return {"features": cells.reshape(len(pixels), self.tokens, self.width)}
