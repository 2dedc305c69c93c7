"""Box codes of models: ranges, areas, order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmlens.features.boxes import lxmert_boxes, patch_boxes


@st.composite
def images(draw):
    """(boxes (N, 4) inside an image, width, height)."""
    width, height = draw(st.integers(1, 3000)), draw(st.integers(1, 3000))
    share = st.floats(0, 1)
    boxes = []
    for _ in range(draw(st.integers(0, 8))):
        x1, x2 = sorted((draw(share), draw(share)))
        y1, y2 = sorted((draw(share), draw(share)))
        boxes.append([x1 * width, y1 * height, x2 * width, y2 * height])
    return np.array(boxes).reshape(-1, 4), width, height


@given(images())
def test_codes_are_shares_of_the_image(image):
    boxes, width, height = image
    codes = lxmert_boxes(*image)
    assert codes.shape == (len(boxes), 4)
    assert codes.dtype == np.float32
    assert (codes >= 0).all()
    assert (codes <= 1).all()
    assert (codes[:, :2] <= codes[:, 2:]).all()
    assert np.allclose(codes * [width, height, width, height], boxes, atol=1e-3)


def test_codes_written_out():
    codes = lxmert_boxes([[0, 0, 200, 100], [50, 25, 150, 50]], 200, 100)
    assert codes.tolist() == [[0, 0, 1, 1], [0.25, 0.25, 0.75, 0.5]]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([0, 0, 150, 60], "1 of 2 boxes, first number 1.*100x200 pixels"),
        ([-1, 0, 50, 60], "first number 1"),
        ([0, 0, 50, 201], "first number 1"),
        ([60, 0, 50, 60], "expected x1 <= x2"),
        ([0, 61, 50, 60], "y1 <= y2"),
        ([0, 0, float("nan"), 60], "first number 1"),
    ],
)
def test_boxes_of_another_image_are_refused(box, expected):
    with pytest.raises(ValueError, match=expected):
        lxmert_boxes([[0, 0, 100, 200], box], 100, 200)


def test_wrong_shapes_and_sizes_are_refused():
    with pytest.raises(ValueError, match=r"found shape \(4,\), expected \(N, 4\)"):
        lxmert_boxes([0, 0, 1, 1], 5, 5)
    with pytest.raises(ValueError, match="image of 0x5 pixels: expected a positive size"):
        lxmert_boxes([[0, 0, 0, 1]], 0, 5)


@given(st.integers(1, 20), st.integers(1, 20))
def test_patches_tile_the_image_row_by_row(rows, columns):
    boxes = patch_boxes((rows, columns))
    assert boxes.shape == (rows * columns, 4)
    assert boxes.dtype == np.float32
    assert boxes[0, :2].tolist() == [0, 0]
    assert boxes[-1, 2:].tolist() == [1, 1]
    grid = boxes.reshape(rows, columns, 4)
    assert np.array_equal(grid[:, 1:, 0], grid[:, :-1, 2])
    assert np.array_equal(grid[1:, :, 1], grid[:-1, :, 3])
    sides = boxes[:, 2:] - boxes[:, :2]
    assert np.allclose(sides, [1 / columns, 1 / rows], atol=1e-6)
