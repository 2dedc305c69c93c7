"""Regions of torchvision's Faster R-CNN trained on COCO: 36 regions of 1024 features."""

import numpy as np
import torch
from torchvision.models import detection

from ..weights import load_state
from . import register_extractor
from .base import Extractor, weights_file, weights_hash


@register_extractor("fasterrcnn")
class FasterRCNN(Extractor):
    """The most confident detections (Ren et al. 2015), each with the box head's features.

    The features are those of the final box, pooled again from the feature pyramid.

    weights : a state dict of the architecture, for example
        https://download.pytorch.org/models/fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth
    architecture : name of a Faster R-CNN builder of torchvision.models.detection
    regions : detections kept per image
    threshold : least confidence of a detection
    """

    def __init__(
        self, weights=None, architecture="fasterrcnn_resnet50_fpn_v2", regions=36, threshold=0.05
    ):
        path = weights_file(self.name, weights)
        self.weights, self.architecture = weights_hash(path), architecture
        self.tokens, self.threshold = regions, threshold
        network = getattr(detection, architecture)(
            weights=None,
            weights_backbone=None,
            box_detections_per_img=regions,
            box_score_thresh=threshold,
        )
        self.network = load_state(network, path)
        self.width = network.roi_heads.box_predictor.cls_score.in_features

    def settings(self):
        return {
            "weights": self.weights,
            "architecture": self.architecture,
            "regions": self.tokens,
            "threshold": self.threshold,
        }

    def to(self, device):
        self.network.to(device)
        return self

    def extract(self, images):
        found = [self.detect(image) for image in images]
        return {name: np.stack([part[name] for part in found]) for name in found[0]}

    def detect(self, image):
        """Arrays of one uint8 image (3, H, W), padded to `regions` rows."""
        network = self.network
        device = next(network.parameters()).device
        scaled, _ = network.transform([image.to(device).float() / 255])
        pyramid = network.backbone(scaled.tensors)
        proposals, _ = network.rpn(scaled, pyramid)
        detections, _ = network.roi_heads(pyramid, proposals, scaled.image_sizes)
        boxes = detections[0]["boxes"]
        pooled = network.roi_heads.box_roi_pool(pyramid, [boxes], scaled.image_sizes)
        features = network.roi_heads.box_head(pooled)
        height, width = scaled.image_sizes[0]
        sides = torch.tensor([width, height, width, height], device=device)
        return {
            "features": padded(features, self.tokens),
            "boxes": padded((boxes / sides).clamp(0, 1), self.tokens),
            "valid": np.arange(self.tokens) < len(boxes),
            "objects": padded(detections[0]["labels"], self.tokens),
            "confidences": padded(detections[0]["scores"], self.tokens),
        }


def padded(values, count):
    """A tensor (n, ...) as array (count, ...), zeros after its n rows."""
    values = values.cpu().numpy()
    result = np.zeros((count, *values.shape[1:]), values.dtype)
    result[: len(values)] = values
    return result
