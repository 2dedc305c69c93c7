"""The samples of a run with corrupted images or texts, as a model gets to see them."""

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..features.base import Geometry
from ..features.boxes import patch_boxes
from ..features.reader import FeatureBatch
from ..models.inputs import Pixels
from . import CORRUPTIONS

EXTRACTED = 50  # images that go through an extractor together


class CorruptedImages:
    """The images of some samples as squares of one size, corrupted when they are read.

    Parameters
    ----------
    paths : files of the distinct images; keys : what each one's random numbers depend on
    size : side of the squares that all are resized to before anything else, in pixels
    """

    def __init__(self, paths, keys, size):
        self.paths, self.keys, self.size = list(paths), list(keys), size

    @cached_property
    def squares(self):
        """`Pixels` of the images as they are, decoded when the first is read."""
        return Pixels(self.paths, Geometry(self.size, self.size))

    def read(self, numbers, name, level):
        """uint8 (n, 3, size, size) of the images `numbers` (long tensor)."""
        squares = self.squares.read(numbers)
        if name is None:
            return squares
        keys = [self.keys[number] for number in numbers.tolist()]
        return CORRUPTIONS.get(name)(squares, level, keys)


class CorruptedPixels:
    """In the place of `Pixels`: corrupted squares, in a model's own geometry."""

    def __init__(self, images, geometry, name, level):
        self.images, self.geometry, self.name, self.level = images, geometry, name, level

    def read(self, numbers):
        """uint8 (n, 3, height, width) of the images `numbers`."""
        return fitted(self.images.read(numbers, self.name, self.level), self.geometry)


class KeptFeatures:
    """In the place of a `FeatureReader`: features of all images of some samples, in memory."""

    def __init__(self, paths, batch):
        self.number = {path: k for k, path in enumerate(paths)}
        self.batch = batch

    def places_of(self, images):
        return np.array([self.number[image] for image in images], int)

    def read(self, places):
        """The `FeatureBatch` of rows of `places_of`."""
        batch = self.batch
        return FeatureBatch(batch.features[places], batch.boxes[places], batch.valid[places])


@torch.inference_mode()
def extracted(images, extractor, device, dtype, name, level):
    """`FeatureBatch` of all images, corrupted; every image once, whatever samples show it.

    images : CorruptedImages; dtype : that the cache keeps features in, which models learned from
    """
    extractor.to(device)
    parts = []
    for numbers in torch.arange(len(images.paths)).split(EXTRACTED):
        squares = images.read(numbers, name, level)
        geometry = extractor.geometry
        given = fitted(squares, geometry).to(device) if geometry else list(squares)
        names = [[images.paths[k] for k in numbers]] if extractor.reads_names else []
        found = extractor.extract(given, *names)
        if extractor.grid:
            boxes = patch_boxes(extractor.grid, geometry.window(images.size, images.size))
            found["boxes"] = np.broadcast_to(boxes, (len(numbers), *boxes.shape))
            found["valid"] = np.ones((len(numbers), extractor.tokens), bool)
        found["features"] = found["features"].astype(dtype).astype(np.float32)
        parts.append(found)
    whole = (np.concatenate([p[key] for p in parts]) for key in ("features", "boxes", "valid"))
    return FeatureBatch(*whole)


def fitted(squares, geometry):
    """uint8 (n, 3, S, S) as (n, 3, height, width) of a geometry."""
    side = squares.shape[-1]
    if (geometry.height, geometry.width) == (side, side) and geometry.shortest_edge in (None, side):
        return squares
    arrays = [
        geometry.apply(Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))))
        for image in squares.numpy()
    ]
    shape = (0, 3, geometry.height, geometry.width)
    return torch.from_numpy(np.stack(arrays)) if arrays else torch.zeros(shape, dtype=torch.uint8)


class Corrupter:
    """Makes corrupted copies of `EncodedSamples`; what a corruption leaves alone is shared.

    Parameters
    ----------
    data : EncodedSamples; size : side of the squares that images are resized to
    extractor : Extractor of the features that the model reads, None for pixels
    folder : for images that a model opens itself
    """

    def __init__(self, data, size, extractor=None, device="cpu", folder=None):
        self.data, self.extractor, self.device = data, extractor, device
        self.folder = folder and Path(folder)
        unique = data.samples.drop_duplicates("image")
        self.images = CorruptedImages(unique["image"], unique["image_sha256"], size)

    def images_by(self, name=None, level=None):
        """The samples with their images corrupted; without a name only resized.

        As they are, for a model that reads no images, or features that were computed elsewhere.
        """
        data = self.data
        if data.features is not None and self.extractor is None:
            return data
        if data.spec.raw:
            return data.with_files(self.written(name, level))
        if self.extractor is not None:
            found = self.clean_features if name is None else self.features_by(name, level)
            return data.with_features(KeptFeatures(self.images.paths, found))
        if data.spec.geometry is None:
            return data
        return data.with_pixels(CorruptedPixels(self.images, data.spec.geometry, name, level))

    def features_by(self, name, level):
        """`FeatureBatch` of all images under one corruption."""
        dtype = self.data.features.settings["dtype"]
        return extracted(self.images, self.extractor, self.device, dtype, name, level)

    @cached_property
    def clean_features(self):
        """`features_by` of images that are only resized, which every corrupted text goes with."""
        return self.features_by(None, None)

    def texts_by(self, name, level):
        """The samples with their texts corrupted, and their images resized as by `images_by`."""
        return self.images_by().with_texts(self.corrupted_texts(name, level))

    def corrupted_texts(self, name, level):
        return [CORRUPTIONS.get(name)(text, level) for text in self.data.samples["text"]]

    def is_read(self, name, levels):
        """Whether a corruption of texts changes, at any level, what the model reads of any text.

        Letter case is not where the tokenizer makes all letters small.
        """
        data = self.data
        if data.spec.raw:  # the processor of such a model has the texts only when it is asked
            return True
        changed = (data.with_texts(self.corrupted_texts(name, level)) for level in levels)
        return not all(torch.equal(other.input_ids, data.input_ids) for other in changed)

    def written(self, name, level):
        """Files of the corrupted images, {path of the image: path of the file}."""
        files = {}
        for number, path in enumerate(self.images.paths):
            pixels = self.images.read(torch.tensor([number]), name, level)[0]
            file = self.folder / f"{number}.png"
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, compress_level=1)
            files[path] = str(file)
        return files
