"""Boxes of the objects that an image is known to show, from the truth table."""

import numpy as np

from ..table import DataError

TOLERANCE = 1  # pixels by which annotated boxes may leave the image; they are cut


def object_boxes(samples, truth):
    """{path of an image: float32 (n, 4), boxes of its objects} of all images of a run.

    Each box is there once, as x1, y1, x2, y2 in shares of the image, sorted by these numbers: the
    order tells nothing that the boxes do not, such as which object a text names.

    Parameters
    ----------
    samples : DataFrame with sample_id, image, width, height
    truth : DataFrame, the truth table

    Raises
    ------
    DataError naming the objects whose box leaves the image, or if there is no object at all.
    """
    columns = {"width": "image_width", "height": "image_height"}
    places = samples[["sample_id", "image", "width", "height"]].rename(columns=columns)
    objects = truth.merge(places, on="sample_id")
    sizes = np.tile(objects[["image_width", "image_height"]].to_numpy(float), 2)
    sides = objects[["width", "height"]].to_numpy(float)
    corners = objects[["x", "y", "x", "y"]].to_numpy(float) + np.hstack([0 * sides, sides])
    kept = corners.clip(0, sizes)
    usable = (abs(corners - kept) <= TOLERANCE).all(1) & (sides >= 0).all(1)
    problems = [
        f"{row.image}: box {[row.x, row.y, row.width, row.height]} of object {row.region_id}; "
        f"expected x, y, width, height in an image of {row.image_width}x{row.image_height} "
        "pixels; correct dataset.instances"
        for row in objects[~usable].itertuples()
    ]
    if not len(objects):
        problems.append("no image has an object; give the boxes of objects in dataset.instances")
    if problems:
        raise DataError("regions of objects", problems)
    shares = (kept / sizes).astype(np.float32)
    boxes = {image: np.zeros((0, 4), np.float32) for image in samples["image"]}
    for image, rows in objects.groupby("image").indices.items():
        boxes[image] = np.unique(shares[rows], axis=0)
    return boxes
