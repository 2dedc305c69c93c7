"""Box arithmetic of the Visual Genome detector, with the "+1" pixel convention of its time.

A box (x1, y1, x2, y2) holds its last pixels, so it is x2 - x1 + 1 wide (Girshick et al. 2014;
Ren et al. 2015). Decoded boxes end at centre + half a width all the same, as when the published
weights were trained and used.
"""

import numpy as np
import torch
from torchvision.ops import nms

BASE_WINDOW = 16  # side of the window that the anchors are made from


def base_anchors(ratios, scales):
    """The anchors of the first location, (A, 4) float32, ratios outer and scales inner.

    Width and height of a ratio are whole pixels for the base window and scaled afterwards
    (Ren et al. 2015, reference implementation).
    """
    centre = (BASE_WINDOW - 1) / 2
    anchors = []
    for ratio in ratios:
        width = np.round(np.sqrt(BASE_WINDOW**2 / ratio))
        height = np.round(width * ratio)
        for scale in scales:
            half = np.array([width * scale - 1, height * scale - 1]) / 2
            anchors.append([*(centre - half), *(centre + half)])
    return torch.tensor(np.array(anchors), dtype=torch.float32)


def grid_anchors(anchors, height, width, stride):
    """Anchors (A, 4) at each location of a feature map: (height * width * A, 4), row-major."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    shifts = (torch.stack([x, y, x, y], -1) * stride).to(anchors)
    return (shifts.reshape(-1, 1, 4) + anchors).reshape(-1, 4)


def decode(boxes, deltas):
    """Boxes (..., 4) moved by (dx, dy, dw, dh) in units of their own +1 size; (..., 4)."""
    size = boxes[..., 2:] - boxes[..., :2] + 1
    centre = boxes[..., :2] + 0.5 * size + deltas[..., :2] * size
    half = 0.5 * torch.exp(deltas[..., 2:]) * size
    return torch.cat([centre - half, centre + half], -1)


def clip(boxes, height, width):
    """Boxes (..., 4) with every corner moved into [0, width - 1], [0, height - 1]."""
    last = boxes.new_tensor([width - 1, height - 1, width - 1, height - 1])
    return boxes.clamp(min=0).minimum(last)


def nms_plus_one(boxes, scores, threshold):
    """Non-maximum suppression at an IoU, of +1 areas, of `threshold` or more.

    Parameters
    ----------
    boxes : float32 (N, 4); scores : float32 (N,)

    Returns
    -------
    int64 (kept,), indices by falling score.
    """
    # torchvision suppresses above its threshold; the next smaller float32 includes equality.
    below = float(np.nextafter(np.float32(threshold), np.float32(-1)))
    return nms(boxes + boxes.new_tensor([0, 0, 1, 1]), scores, below)


def propose(probabilities, deltas, size, config):
    """The proposals of one image, from the outputs of the region proposal network.

    Parameters
    ----------
    probabilities : (1, 2 A, h, w), background channels first
    deltas : (1, 4 A, h, w), anchor-major
    size : (height, width) of the scaled image in pixels
    config : VGConfig

    Returns
    -------
    boxes : (rpn_post_nms_top_n, 4) in the scaled image, by falling score. Where fewer proposals
        remain, the last rows are zero boxes; as published, the detector classifies them too.
    count : int, number of rows before these
    """
    rows, columns = probabilities.shape[-2:]
    base = base_anchors(config.anchor_ratios, config.anchor_scales).to(deltas)
    scores = probabilities[0, len(base) :].permute(1, 2, 0).reshape(-1)
    anchors = grid_anchors(base, rows, columns, config.feat_stride)
    boxes = clip(decode(anchors, deltas[0].permute(1, 2, 0).reshape(-1, 4)), *size)
    scores, order = scores.sort(descending=True, stable=True)
    scores, order = scores[: config.rpn_pre_nms_top_n], order[: config.rpn_pre_nms_top_n]
    boxes = boxes[order]
    kept = nms_plus_one(boxes, scores, config.rpn_nms_thresh)[: config.rpn_post_nms_top_n]
    proposals = boxes.new_zeros(config.rpn_post_nms_top_n, 4)
    proposals[: len(kept)] = boxes[kept]
    return proposals, len(kept)


def surviving_confidence(probabilities, boxes, config):
    """Highest probability with which a region survives the suppression of a class; (R,).

    A class takes part in regions above conf_thresh; 0 where a region survives in none.

    Parameters
    ----------
    probabilities : (R, classes), class 0 is the background
    boxes : (R, classes, 4)
    """
    confidence = probabilities.new_zeros(len(probabilities))
    likely = probabilities > config.conf_thresh
    for label in likely.any(0).nonzero().flatten().tolist():
        if label == 0:
            continue
        regions = likely[:, label].nonzero().flatten()
        scores = probabilities[regions, label]
        kept = nms_plus_one(boxes[regions, label], scores, config.nms_thresh)
        confidence[regions[kept]] = confidence[regions[kept]].maximum(scores[kept])
    return confidence


def choose(confidence, config):
    """Indices (max_boxes,) of the regions that are exported, by falling confidence.

    Equal confidences, such as the zeros where fewer than max_boxes regions survive, keep the
    order of the proposals (published: any order). If exactly max_boxes regions reach
    conf_thresh, these stand in the order of the proposals, as published.
    """
    kept = (confidence >= config.conf_thresh).nonzero().flatten()
    if len(kept) == config.max_boxes:
        return kept
    return confidence.argsort(descending=True, stable=True)[: config.max_boxes]
