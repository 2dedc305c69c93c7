"""Patches of the run's own convolutional stem, frozen after its pretraining."""

from ..models.layers import PATCH, Stem
from ..weights import load_state, read_content
from . import register_extractor
from .base import Extractor, Geometry, weights_file, weights_hash
from .normalise import PLAIN, normalised


@register_extractor("stem")
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

    def extract(self, images):
        patches = self.network(normalised(images, *PLAIN))
        return {"features": patches.flatten(2).transpose(1, 2).cpu().numpy()}
