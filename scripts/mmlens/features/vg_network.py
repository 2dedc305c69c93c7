"""The Visual Genome Faster R-CNN: ResNet-101 C4 in its Caffe form (Ren et al. 2015).

The modules carry the names of the published checkpoint, so that its keys are theirs. This is not
torchvision's ResNet: the stride of a stage sits on its first 1x1 convolution, and the max-pool
has no padding but a last window that may be cut.
"""

from dataclasses import dataclass, fields

from torch import nn
from torchvision.ops import roi_align

from ..registry import unknown
from .vg_boxes import clip, decode

EXPANSION = 4  # output channels of a bottleneck, per channel inside
# What the network can only be, by key of a config file.
FIXED = {
    "feat_stride": 16,
    "pooling": "align",
    "sampling_ratio": 0,
    "roi_aligned": False,
}
# Keys of a config file that say how it was made.
REMARKS = ("full_size", "seed_weights", "seed_images")


@dataclass(frozen=True)
class VGConfig:
    """Sizes and thresholds; the defaults are those of the published checkpoint.

    test_scale and test_max_size are pixels: the short side of a scaled image, unless its long
    side then passes the second. num_classes includes the background, class 0.
    """

    num_classes: int = 1601
    bottleneck_blocks: tuple = (3, 4, 23, 3)
    bottleneck_planes: tuple = (64, 128, 256, 512)
    stem_channels: int = 64
    rpn_channels: int = 512
    anchor_scales: tuple = (4, 8, 16, 32)
    anchor_ratios: tuple = (0.5, 1, 2)
    pixel_means_bgr: tuple = (102.9801, 115.9465, 122.7717)
    test_scale: int = 600
    test_max_size: int = 1000
    rpn_pre_nms_top_n: int = 6000
    rpn_post_nms_top_n: int = 300
    rpn_nms_thresh: float = 0.7
    nms_thresh: float = 0.3
    conf_thresh: float = 0.2
    max_boxes: int = 36
    pooling_size: int = 7
    bbox_stds: tuple = (0.1, 0.1, 0.2, 0.2)
    bbox_means: tuple = (0.0, 0.0, 0.0, 0.0)
    bn_eps: float = 1e-5

    def __post_init__(self):
        if self.rpn_post_nms_top_n < self.max_boxes:
            raise ValueError(
                f"rpn_post_nms_top_n: found {self.rpn_post_nms_top_n}, expected at least "
                f"max_boxes ({self.max_boxes})"
            )

    @property
    def feat_stride(self):
        return FIXED["feat_stride"]

    @property
    def base_channels(self):
        return self.bottleneck_planes[2] * EXPANSION

    @property
    def top_channels(self):
        """Length of a region's feature."""
        return self.bottleneck_planes[3] * EXPANSION

    @property
    def min_boxes(self):
        """As many as max_boxes: the number of exported regions is fixed."""
        return self.max_boxes

    @classmethod
    def from_dict(cls, values):
        """A config of a parsed config file; keys left out keep their defaults.

        Raises
        ------
        ValueError naming every key that is unknown, or that asks for another network.
        """
        if not isinstance(values, dict):
            raise ValueError("expected an object of keys and values")
        defaults = {field.name: field.default for field in fields(cls)}
        problems = [
            f"{key}: found {value!r}, expected a value such as {defaults[key]!r}"
            for key, value in values.items()
            if key in defaults and not is_like(value, defaults[key])
        ]
        if problems:
            raise ValueError("; ".join(problems))
        own = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        config = cls(**{key: own[key] for key in own if key in defaults})
        implied = {key: getattr(config, key) for key in ("base_channels", "top_channels")}
        implied = {**FIXED, **implied, "min_boxes": config.min_boxes}
        for key, value in values.items():
            if key in implied and value != implied[key]:
                problems.append(f"{key}: found {value!r}, expected {implied[key]!r}")
            elif key not in (*defaults, *implied, *REMARKS):
                problems.append(unknown("key", key, [*defaults, *implied]))
        if problems:
            raise ValueError("; ".join(problems))
        return config


def is_like(value, default):
    """Whether a value of a config file is a number, or a list of them, as its default is."""
    if isinstance(default, tuple):
        return isinstance(value, list) and bool(value) and all(is_like(v, 0.0) for v in value)
    numbers = int if isinstance(default, int) else int | float
    return isinstance(value, numbers) and not isinstance(value, bool)


class Bottleneck(nn.Module):
    """Residual block of 1x1 (with the stride), 3x3 and 1x1 convolutions (He et al. 2015)."""

    def __init__(self, inputs, planes, stride, eps):
        super().__init__()
        outputs = planes * EXPANSION
        self.conv1 = nn.Conv2d(inputs, planes, 1, stride, bias=False)
        self.bn1 = nn.BatchNorm2d(planes, eps)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes, eps)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs, eps)
        self.relu = nn.ReLU()
        self.downsample = None
        if stride != 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs, eps))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


def stage(inputs, planes, blocks, stride, eps):
    """One stage of the ResNet; its first block has the stride."""
    first = Bottleneck(inputs, planes, stride, eps)
    rest = [Bottleneck(planes * EXPANSION, planes, 1, eps) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


class RegionProposals(nn.Module):
    """Region proposal network: base features -> scores and deltas of the anchors."""

    def __init__(self, config):
        super().__init__()
        anchors = len(config.anchor_scales) * len(config.anchor_ratios)
        self.RPN_Conv = nn.Conv2d(config.base_channels, config.rpn_channels, 3, padding=1)
        self.RPN_cls_score = nn.Conv2d(config.rpn_channels, 2 * anchors, 1)
        self.RPN_bbox_pred = nn.Conv2d(config.rpn_channels, 4 * anchors, 1)

    def forward(self, x):
        """(B, base_channels, h, w) -> probabilities (B, 2 A, h, w), deltas (B, 4 A, h, w).

        Channel a is the background of anchor a, channel A + a its foreground.
        """
        x = self.RPN_Conv(x).relu()
        scores = self.RPN_cls_score(x)
        probabilities = scores.unflatten(1, (2, -1)).softmax(1).flatten(1, 2)
        return probabilities, self.RPN_bbox_pred(x)


class VGDetector(nn.Module):
    """The network, in the stages that `vg_detector.detect` runs one after another.

    RCNN_base (image -> base features), RCNN_rpn, `pool`, `features`, `classify`, `regress`. It is
    built in evaluation mode: its batch normalisation is that of the checkpoint.
    """

    def __init__(self, config=None):
        super().__init__()
        self.config = config = config or VGConfig()
        eps, planes, blocks = config.bn_eps, config.bottleneck_planes, config.bottleneck_blocks
        layers, inputs = [], config.stem_channels
        for position in range(4):
            stride = 1 if position == 0 else 2
            layers.append(stage(inputs, planes[position], blocks[position], stride, eps))
            inputs = planes[position] * EXPANSION
        self.RCNN_base = nn.Sequential(
            nn.Conv2d(3, config.stem_channels, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(config.stem_channels, eps),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=0, ceil_mode=True),
            *layers[:3],
        )
        self.RCNN_rpn = RegionProposals(config)
        self.RCNN_top = nn.Sequential(layers[3])
        self.RCNN_cls_score = nn.Linear(config.top_channels, config.num_classes)
        self.RCNN_bbox_pred = nn.Linear(config.top_channels, 4 * config.num_classes)
        self.eval()

    def pool(self, base, boxes):
        """RoI align of boxes (R, 4) in the scaled image: (R, base_channels, 7, 7)."""
        return roi_align(
            base,
            [boxes],
            self.config.pooling_size,
            spatial_scale=1 / self.config.feat_stride,
            sampling_ratio=FIXED["sampling_ratio"],
            aligned=FIXED["roi_aligned"],
        )

    def features(self, pooled):
        """Pooled regions -> their features (R, top_channels), the ones that are exported."""
        return self.RCNN_top(pooled).mean(3).mean(2)

    def classify(self, features):
        """Features -> class probabilities (R, classes) and deltas (R, 4 * classes)."""
        return self.RCNN_cls_score(features).softmax(1), self.RCNN_bbox_pred(features)

    def regress(self, boxes, deltas, size, scale):
        """Boxes of every class in pixels of the original image, (R, classes, 4).

        Parameters
        ----------
        boxes : (R, 4), proposals in the scaled image
        deltas : (R, 4 * classes) of `classify`
        size : (height, width) of the scaled image
        scale : scaled pixels per original pixel
        """
        deltas = deltas.unflatten(1, (-1, 4))
        stds, means = (
            deltas.new_tensor(v) for v in (self.config.bbox_stds, self.config.bbox_means)
        )
        return clip(decode(boxes[:, None], deltas * stds + means), *size) / scale
