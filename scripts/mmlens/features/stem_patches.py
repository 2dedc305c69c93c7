"""Patches, or objects, as the run's own convolutional stem sees them, frozen after pretraining."""

import numpy as np
import pandas as pd
import torch
from torchvision.ops import roi_align

from ..files import stable_hash
from ..models.layers import PATCH, Stem
from ..table import read_samples
from ..weights import load_state, read_content
from . import register_extractor
from .base import Extractor, Geometry, weights_file, weights_hash
from .normalise import PLAIN, normalised
from .object_boxes import object_boxes


@register_extractor("stem", stem=True)
class StemPatches(Extractor):
    """What the from-scratch models start from, without being trained further with them.

    weights : of rule pretrain_stem, which the workflow fills in
    size : side of the square that images are resized to, a multiple of 16; the workflow fills in
        model.image_size
    """

    def __init__(self, weights=None, size=96):
        path = weights_file(self.name, weights)
        self.weights = weights_hash(path)
        # Its last layer is a BatchNorm over as many channels as it has features.
        self.width = len(read_content(path)["10.weight"])
        self.network = load_state(Stem(self.width), path)
        self.geometry = Geometry(size, size)
        self.grid = (size // PATCH, size // PATCH)
        self.tokens = self.grid[0] * self.grid[1]

    def settings(self):
        return {"weights": self.weights}

    def to(self, device):
        self.network.to(device)
        return self

    def patches(self, images):
        """uint8 (B, 3, size, size) -> features (B, width, rows, columns)."""
        return self.network(normalised(images, *PLAIN))

    def extract(self, images):
        patches = self.patches(images)
        return {"features": patches.flatten(2).transpose(1, 2).cpu().numpy()}


@register_extractor("stem_regions", stem=True, truth=True)
class StemRegions(StemPatches):
    """The annotated objects of an image as regions, where the truth table knows them.

    All objects of the image, whatever a text names; a feature is the mean of the patches' features
    over the object's box (RoIAlign, He et al. 2017). An image without objects has no region.

    weights, size : as of stem
    samples, truth : paths of the run's tables, which the workflow fills in
    """

    reads_names = True

    def __init__(self, weights=None, size=96, *, samples, truth):
        super().__init__(weights, size)
        self.boxes = object_boxes(read_samples(samples), pd.read_parquet(truth))
        # As many points as patches, so that none under a box of any size is passed over.
        self.points = self.grid[0]
        self.grid = None
        self.tokens = max(map(len, self.boxes.values()))

    def settings(self):
        return {**super().settings(), "regions": self.tokens}

    def keys(self, images):
        named = zip(images["image"], images["image_sha256"], strict=True)
        content = [[digest, self.boxes[image].tolist()] for image, digest in named]
        return pd.Series([stable_hash(value) for value in content], images.index)

    def extract(self, images, names):
        patches = self.patches(images)
        boxes = np.zeros((len(names), self.tokens, 4), np.float32)
        valid = np.zeros((len(names), self.tokens), bool)
        for row, name in enumerate(names):
            own = self.boxes[name]
            boxes[row, : len(own)], valid[row, : len(own)] = own, True
        places = torch.from_numpy(boxes[valid]).to(patches) * self.points
        features = np.zeros((*valid.shape, self.width), np.float32)
        pooled = roi_align(
            patches, places.split(valid.sum(1).tolist()), 1, 1.0, self.points, aligned=True
        )
        features[valid] = pooled.flatten(1).cpu().numpy()
        return {"features": features, "boxes": boxes, "valid": valid}
