"""Box arithmetic of the Visual Genome detector against sums written out pixel by pixel."""

from random import Random

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmlens.features.vg_boxes import (
    base_anchors,
    choose,
    clip,
    decode,
    grid_anchors,
    nms_plus_one,
    propose,
    surviving_confidence,
)
from mmlens.features.vg_network import VGConfig

RATIOS, SCALES = (0.5, 1, 2), (4, 8, 16, 32)
pixel = st.integers(0, 12)


@st.composite
def whole_boxes(draw, least=1, most=12):
    """Boxes of whole pixels in a 13x13 image, as lists."""
    boxes = []
    for _ in range(draw(st.integers(least, most))):
        (x1, x2), (y1, y2) = (sorted((draw(pixel), draw(pixel))) for _ in range(2))
        boxes.append([x1, y1, x2, y2])
    return boxes


def pixels_of(box):
    """The pixels of a box, its last ones included."""
    x1, y1, x2, y2 = box
    return {(x, y) for x in range(x1, x2 + 1) for y in range(y1, y2 + 1)}


def suppressed(boxes, scores, threshold):
    """Indices that greedy suppression keeps, with IoU counted in pixels (float32, as trained)."""
    order = sorted(range(len(boxes)), key=lambda k: -scores[k])
    kept = []
    for k in order:
        own = pixels_of(boxes[k])
        overlaps = [
            np.float32(len(own & pixels_of(boxes[j]))) / np.float32(len(own | pixels_of(boxes[j])))
            for j in kept
        ]
        if all(overlap < np.float32(threshold) for overlap in overlaps):
            kept.append(k)
    return kept


@settings(max_examples=200)
@given(whole_boxes(), st.sampled_from([0.3, 0.5, 0.7]), st.randoms(use_true_random=False))
def test_suppression_counts_the_last_pixels_and_drops_equality(boxes, threshold, random):
    scores = [k / 100 for k in range(len(boxes))]
    random.shuffle(scores)
    kept = nms_plus_one(torch.tensor(boxes).float(), torch.tensor(scores), threshold)
    assert kept.tolist() == suppressed(boxes, scores, threshold)


@pytest.mark.parametrize(
    ("width", "threshold", "kept"),
    # 10 pixels against `width` of them: the IoU is width / 10.
    [(7, 0.7, 1), (6, 0.7, 2), (3, 0.3, 1), (2, 0.3, 2), (5, 0.5, 1), (4, 0.5, 2)],
)
def test_suppression_at_exactly_the_threshold(width, threshold, kept):
    boxes = torch.tensor([[0.0, 0, 9, 0], [0, 0, width - 1, 0]])
    assert len(nms_plus_one(boxes, torch.tensor([0.9, 0.8]), threshold)) == kept


def test_equal_scores_are_suppressed_in_order():
    boxes = torch.zeros(3, 4)
    assert nms_plus_one(boxes, torch.full((3,), 0.5), 0.3).tolist() == [0]


def encode(boxes, targets):
    """The deltas that move `boxes` onto `targets`, in +1 sizes (Girshick et al. 2014)."""
    size, wanted = (b[:, 2:] - b[:, :2] + 1 for b in (boxes, targets))
    centre, goal = boxes[:, :2] + 0.5 * size, targets[:, :2] + 0.5 * wanted
    return torch.cat([(goal - centre) / size, torch.log(wanted / size)], 1)


@given(whole_boxes(6, 6), whole_boxes(6, 6))
def test_decoding_inverts_encoding_but_for_the_last_pixel(boxes, targets):
    boxes, targets = torch.tensor(boxes).double(), torch.tensor(targets).double()
    decoded = decode(boxes, encode(boxes, targets))
    assert torch.allclose(decoded, targets + torch.tensor([0, 0, 1, 1]), atol=1e-9)
    # The same with a class axis, as the detector calls it.
    both = torch.stack([encode(boxes, targets), torch.zeros(6, 4)], 1)
    assert torch.equal(decode(boxes[:, None], both)[:, 0], decoded)


@given(whole_boxes(), st.integers(1, 20), st.integers(1, 20))
def test_clipped_boxes_lie_in_the_image_and_inner_ones_do_not_move(boxes, height, width):
    boxes = torch.tensor(boxes).float() - 3
    clipped = clip(boxes, height, width)
    assert (clipped >= 0).all()
    assert (clipped[:, [0, 2]] <= width - 1).all()
    assert (clipped[:, [1, 3]] <= height - 1).all()
    inside = (boxes >= 0).all(1) & (boxes[:, 2] < width) & (boxes[:, 3] < height)
    assert torch.equal(clipped[inside], boxes[inside])


def test_anchors_are_the_published_ones():
    anchors = base_anchors(RATIOS, SCALES)
    assert anchors.shape == (12, 4)
    assert anchors[0].tolist() == [-38, -16, 53, 31]
    assert anchors[-1].tolist() == [-168, -344, 183, 359]
    # Widths and heights of the base window per ratio, times the scales.
    sizes = (anchors[:, 2:] - anchors[:, :2] + 1).tolist()
    assert sizes == [[w * s, h * s] for w, h in ((23, 12), (16, 16), (11, 22)) for s in SCALES]


def test_anchors_shift_along_rows_first():
    anchors = base_anchors(RATIOS, SCALES)
    grid = grid_anchors(anchors, 2, 3, 16)
    assert grid.shape == (2 * 3 * 12, 4)
    for row in range(2):
        for column in range(3):
            start = 12 * (3 * row + column)
            shift = torch.tensor([column, row, column, row]) * 16
            assert torch.equal(grid[start : start + 12], anchors + shift)


def test_missing_proposals_are_zero_boxes():
    config = VGConfig(rpn_post_nms_top_n=40)
    probabilities = torch.linspace(0.1, 0.9, 24).reshape(1, 24, 1, 1)
    boxes, count = propose(probabilities, torch.zeros(1, 48, 1, 1), (16, 16), config)
    assert boxes.shape == (40, 4)
    # Every anchor but the flat ones of scale 4 covers the whole image, so only one is left.
    assert 1 <= count <= 12
    assert boxes[0].tolist() == [0, 0, 15, 15]
    assert (boxes[count:] == 0).all()
    assert (boxes[:count].sum(1) > 0).all()


def test_proposals_are_the_best_before_suppression():
    config = VGConfig(rpn_pre_nms_top_n=50, rpn_post_nms_top_n=40, rpn_nms_thresh=0.99)
    generator = torch.Generator().manual_seed(0)
    foreground = torch.rand(1, 12, 6, 7, generator=generator)
    probabilities = torch.cat([1 - foreground, foreground], 1)
    boxes, count = propose(probabilities, torch.zeros(1, 48, 6, 7), (2000, 2000), config)
    flat = foreground[0].permute(1, 2, 0).flatten()
    # Without a delta, a box ends one pixel after its anchor.
    anchors = grid_anchors(base_anchors(RATIOS, SCALES), 6, 7, 16) + torch.tensor([0, 0, 1, 1])
    wanted = clip(anchors, 2000, 2000)[flat.argsort(descending=True)[:50]]
    wanted = wanted[nms_plus_one(wanted, torch.linspace(1, 0, 50), 0.99)][:40]
    assert count == len(wanted)
    assert torch.equal(boxes[:count], wanted)


def test_confidence_survives_only_its_own_class():
    config = VGConfig(num_classes=3)
    same = torch.tensor([0.0, 0, 9, 9])
    far = torch.tensor([50.0, 50, 59, 59])
    # Regions 0 and 1 share their box of class 1; those of class 2 lie apart.
    boxes = torch.stack([torch.stack([same, same, far * k]) for k in range(1, 4)])
    boxes[2, 1] = far
    probabilities = torch.tensor([[0.1, 0.6, 0.3], [0.1, 0.5, 0.4], [0.9, 0.2, 0.1]])
    found = surviving_confidence(probabilities, boxes, config)
    # Region 1 is suppressed in class 1 but lives in class 2; region 2 is not above 0.2.
    assert found.tolist() == pytest.approx([0.6, 0.4, 0])


def test_background_gives_no_confidence():
    config = VGConfig(num_classes=2)
    found = surviving_confidence(torch.tensor([[0.9, 0.1]]), torch.zeros(1, 2, 4), config)
    assert found.tolist() == [0]


@example(36, Random(0))
@given(st.integers(0, 60), st.randoms(use_true_random=False))
def test_36_regions_are_chosen_whatever_survives(positives, random):
    confidences = [0.2 + 0.01 * (k + 1) for k in range(positives)] + [0.0] * (60 - positives)
    random.shuffle(confidences)
    kept = choose(torch.tensor(confidences), VGConfig()).tolist()
    order = sorted(range(60), key=lambda k: (-confidences[k], k))[:36]
    assert kept == (sorted(order) if positives == 36 else order)
