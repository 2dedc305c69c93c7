"""Where regions lie, in the units that models read. Boxes are (N, 4): x1, y1, x2, y2."""

import numpy as np


def lxmert_boxes(boxes, width, height):
    """Boxes in pixels -> float32 (N, 4), as shares of the image (Tan & Bansal 2019).

    Parameters
    ----------
    boxes : (N, 4), in pixels
    width, height : of the image, in pixels

    Raises
    ------
    ValueError if a box is turned round or does not lie in the image: then it is of another
    image or another size of it, or width and height are confused.
    """
    boxes = np.asarray(boxes, np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes: found shape {boxes.shape}, expected (N, 4)")
    if not (width > 0 and height > 0):
        raise ValueError(f"image of {width}x{height} pixels: expected a positive size")
    inside = (boxes >= 0).all(1) & (boxes <= [width, height, width, height]).all(1)
    wrong = np.flatnonzero(~inside | (boxes[:, :2] > boxes[:, 2:]).any(1))
    if len(wrong):
        raise ValueError(
            f"{len(wrong)} of {len(boxes)} boxes, first number {wrong[0]} "
            f"{boxes[wrong[0]].tolist()}: expected x1 <= x2, y1 <= y2 in an image of "
            f"{width}x{height} pixels; are these the pixels of this image?"
        )
    return (boxes / [width, height, width, height]).astype(np.float32)


def patch_boxes(grid, window=(0.0, 0.0, 1.0, 1.0)):
    """Cells of a (rows, columns) grid that fills `window`, row by row.

    Returns float32 (rows * columns, 4) in the units of `window` (x1, y1, x2, y2).
    """
    rows, columns = grid
    x = np.linspace(window[0], window[2], columns + 1)
    y = np.linspace(window[1], window[3], rows + 1)
    top, left = np.indices((rows, columns))
    corners = np.stack([x[left], y[top], x[left + 1], y[top + 1]], -1)
    return corners.reshape(-1, 4).astype(np.float32)
