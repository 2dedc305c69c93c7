"""The extractor contract: what the cache and the models ask of an extractor."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

from ..files import sha256_file, stable_hash
from ..table import DataError

INTERPOLATION = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class Geometry:
    """How an image becomes a uint8 array of one size, with Pillow's antialiased resizing.

    Extractors of equal geometry share their decoded images.

    height, width : of the result, in pixels
    shortest_edge : the shorter side is resized to this, then the centre is cut out; None stretches
        the whole image to the result
    interpolation : "bicubic" or "bilinear"
    crop : "floor" or "round", how half a pixel of the crop's corner is rounded: transformers
        floors it, torchvision rounds it
    """

    height: int
    width: int
    shortest_edge: int | None = None
    interpolation: str = "bicubic"
    crop: str = "floor"

    def resized(self, width, height):
        """(width, height) after resizing and before the crop."""
        if self.shortest_edge is None:
            return self.width, self.height
        longest = int(self.shortest_edge * max(width, height) / min(width, height))
        return (self.shortest_edge, longest) if width <= height else (longest, self.shortest_edge)

    def corner(self, width, height):
        """(left, top) of the crop in the resized image; negative where it must be padded."""
        gaps = (width - self.width, height - self.height)
        return tuple(round(gap / 2) if self.crop == "round" else gap // 2 for gap in gaps)

    def apply(self, image):
        """An RGB Pillow image as uint8 array (3, height, width)."""
        size = self.resized(*image.size)
        if image.size != size:
            image = image.resize(size, INTERPOLATION[self.interpolation])
        if self.shortest_edge is not None:
            left, top = self.corner(*size)
            image = image.crop((left, top, left + self.width, top + self.height))
        return np.asarray(image).transpose(2, 0, 1)

    def window(self, width, height):
        """(x1, y1, x2, y2) of what the result shows, as shares of an original width x height."""
        if self.shortest_edge is None:
            return 0.0, 0.0, 1.0, 1.0
        w, h = self.resized(width, height)
        left, top = self.corner(w, h)
        return left / w, top / h, (left + self.width) / w, (top + self.height) / h


class Extractor(ABC):
    """Turns images into tokens of features, always with trained weights or none.

    Attributes
    ----------
    geometry : Geometry, or None for an extractor that reads images of any size
    reads_images : False for one that looks up features by the name of the image file
    reads_names : True for one that also wants the paths of the images it computes
    grid : (rows, columns) of the patches, or None for regions of any place and size
    tokens, width : N tokens of D features per image
    """

    geometry = None
    reads_images = True
    reads_names = False
    grid = None
    tokens = 0
    width = 0
    version = 1  # raised when the code changes what comes out

    @abstractmethod
    def settings(self):
        """dict, JSON: architecture, SHA-256 of the weights, preprocessing beside the geometry."""

    def describe(self):
        """All that the features of an image depend on, beside its bytes."""
        geometry = asdict(self.geometry) if self.geometry else None
        return {
            "extractor": self.name,
            "version": self.version,
            "geometry": geometry,
            "backend": f"pillow {PIL.__version__}" if self.reads_images else None,
            **self.settings(),
        }

    def key(self):
        """Short hash of `describe`, part of the cache's folder name."""
        return stable_hash(self.describe())

    def keys(self, images):
        """What each image's features are filed under, one text per row of `images`.

        By default its content, or its name where that is read.

        images : DataFrame with image, image_sha256
        """
        if self.reads_images:
            return images["image_sha256"]
        return images["image"].map(lambda path: Path(path).stem)

    def to(self, device):
        """Move the weights, if any, to a torch device; returns the extractor."""
        return self

    @abstractmethod
    def extract(self, images):
        """Features of a batch of B images; with reads_names, `extract(images, names)`.

        images : uint8 tensor (B, 3, height, width) where there is a geometry; else a list of
            uint8 tensors (3, H, W); else (reads_images is False) a list of paths
        names : list of B paths of the image files

        Returns
        -------
        dict of arrays: features (B, N, D) float32; optional pooled (B, P); for regions also
        boxes (B, N, 4), x1 y1 x2 y2 as shares of the image, and valid (B, N) bool, False where
        an image has fewer regions (features and boxes are 0 there).
        """


def weights_file(extractor, path):
    """`path` of a weights file or folder, checked.

    Raises
    ------
    DataError if it was not given or is not there; an extractor never runs on untrained weights.
    """
    key = f"features.settings.{extractor}.weights"
    if not path:
        raise DataError("features", [f"{key}: not set; give the file or folder of its weights"])
    if not Path(path).exists():
        raise DataError("features", [f"{path}: no such file or folder; correct {key}"])
    return Path(path)


def weights_hash(path):
    """SHA-256 over the weight files at `path` (a file, or all weights of a folder)."""
    path = Path(path)
    if path.is_file():
        return sha256_file(path)
    files = [p for p in sorted(path.iterdir()) if p.suffix in (".safetensors", ".bin", ".json")]
    return stable_hash({p.name: sha256_file(p) for p in files})
