"""Regions of the Visual Genome Faster R-CNN: 36 regions of 2048 features."""

from dataclasses import asdict

import numpy as np

from . import register_extractor
from .base import Extractor, weights_file, weights_hash
from .boxes import lxmert_boxes
from .vg_detector import detect, load_detector


@register_extractor("fasterrcnn_vg")
class FasterRCNNVG(Extractor):
    """The detector that the published ViLBERT and LXMERT features come from the family of.

    weights : faster_rcnn_res101_vg.pth as released, or its tensors as .safetensors; a config.json
        beside it changes the sizes of the network (`VGConfig`)
    """

    def __init__(self, weights=None):
        path = weights_file(self.name, weights)
        self.weights = weights_hash(path)
        self.detector = load_detector(path)
        self.tokens = self.detector.config.max_boxes
        self.width = self.detector.config.top_channels

    def settings(self):
        return {"weights": self.weights, "config": asdict(self.detector.config)}

    def to(self, device):
        self.detector.to(device)
        return self

    def extract(self, images):
        found = [self.regions(image.permute(1, 2, 0).numpy()) for image in images]
        return {name: np.stack([part[name] for part in found]) for name in found[0]}

    def regions(self, image):
        """Arrays of one uint8 image (H, W, 3)."""
        found = detect(self.detector, image)
        height, width = image.shape[:2]
        valid = np.arange(self.tokens) < found.valid
        return {
            "features": found.features * valid[:, None],
            "boxes": lxmert_boxes(found.boxes, width, height) * valid[:, None],
            "valid": valid,
            "objects": found.objects,
            "confidences": found.confidences,
        }
