"""ResNet-152 grid features, as the early Hateful-Memes models use them."""

import torch
import torch.nn.functional as F
from torchvision.models import resnet152

from ..weights import load_state
from . import register_extractor
from .base import Extractor, Geometry, weights_file, weights_hash
from .normalise import IMAGENET, normalised


@register_extractor("resnet")
class ResNet(Extractor):
    """Last convolutional map of ResNet-152 (He et al. 2016), pooled to 6 x 6: 36 x 2048.

    weights : a state dict of torchvision's resnet152 (.pth or .safetensors), for example
        https://download.pytorch.org/models/resnet152-f82ba261.pth (IMAGENET1K_V2); its
        preprocessing is the preset of those weights: shorter side 232, centre 224, bilinear.
    """

    grid = (6, 6)
    tokens, width = 36, 2048
    geometry = Geometry(224, 224, shortest_edge=232, interpolation="bilinear", crop="round")

    def __init__(self, weights=None):
        path = weights_file(self.name, weights)
        self.weights = weights_hash(path)
        self.network = load_state(resnet152(), path)

    def settings(self):
        return {"weights": self.weights}

    def to(self, device):
        self.network.to(device)
        return self

    def extract(self, images):
        net = self.network
        x = net.maxpool(net.relu(net.bn1(net.conv1(normalised(images, *IMAGENET)))))
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = stage(x)
        cells = F.adaptive_avg_pool2d(x, self.grid).flatten(2).transpose(1, 2)
        return {"features": cells.cpu().numpy(), "pooled": torch.mean(x, (2, 3)).cpu().numpy()}
