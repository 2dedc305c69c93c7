"""Ground truth of explanations: the masks of the objects and the words that name them."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
from pycocotools import mask as coco_mask

COLUMNS = ("sample_id", "region_id", "category", "x", "y", "width", "height")
MASK_COLUMNS = ("mask_height", "mask_width", "mask_counts", "named", "word_spans")
NO_MASK = ""
SHOWN = ("sample_id", "image", "text")


def read_truth(samples, instances, named, spans, problems):
    """One row per sample and object of its image.

    Parameters
    ----------
    samples : DataFrame with sample_id, split, image, text
    instances : {split: what `read_instances` returns for it}
    named : {sample_id: annotation id of the object that decides the label}; None where the data
        set does not say, and an object counts as named if its category stands in the text
    spans : {sample_id: JSON list of (start, end) character spans of the deciding words}
    problems : list, to which masks and file names that cannot be used are appended

    Returns
    -------
    DataFrame with sample_id, region_id, category, box (x, y, width, height in pixels), mask
    (RLE: mask_height, mask_width, mask_counts), named (bool), word_spans (JSON). An object whose
    segmentation is empty has only a box, which is no mask: its mask_counts is "".
    """
    rows = []
    for split, (path, by_file) in instances.items():
        chosen = samples[samples["split"] == split]
        for sample_id, image, text in zip(*(chosen[c] for c in SHOWN), strict=True):
            matches = [objects for end in ends_of(image) for objects in by_file.get(end, [])]
            if len(matches) > 1:
                problems.append(
                    f"{path}: {len(matches)} images match {image}; make file_name unique"
                )
            for region in matches[0] if matches else []:
                try:
                    mask = encoded(region["segmentation"], *region["size"])
                except Exception as error:  # pycocotools raises no narrower one
                    problems.append(
                        f"{path}: segmentation of annotation {region['region_id']} cannot be read "
                        f"({error}); expected polygons or RLE"
                    )
                    continue
                rows.append(
                    {
                        **region,
                        "sample_id": sample_id,
                        "mask_height": mask["size"][0],
                        "mask_width": mask["size"][1],
                        "mask_counts": mask["counts"],
                        "named": is_named(region["category"], text)
                        if named is None
                        else region["region_id"] == str(named.get(sample_id, "")),
                        "word_spans": spans.get(sample_id, "[]"),
                    }
                )
    return pd.DataFrame(rows, columns=[*COLUMNS, *MASK_COLUMNS])


def is_named(category, text):
    """Whether the words of a category stand in a text, the last one in the plural or not."""
    return re.search(rf"\b{re.escape(category)}(e?s)?\b", text, re.IGNORECASE) is not None


def read_instances(paths, problems):
    """{split: (path, {file name: [objects of each image of that name]})} of COCO instances files.

    paths : {split: path}; a file that cannot be read is appended to `problems` and left out
    """
    instances = {}
    for split, path in paths.items():
        key = f"dataset.instances.{split}"
        if not Path(path).is_file():
            problems.append(f"{path}: no such file ({key})")
            continue
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            instances[split] = (path, objects_by_file(content))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            problems.append(
                f"{path}: not a COCO instances file ({type(error).__name__}: {error}); see {key}"
            )
    return instances


def objects_by_file(content):
    """{file name: [objects of each image of that name]} of the content of a COCO instances file."""
    categories = {category["id"]: category["name"] for category in content["categories"]}
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    objects = {image_id: [] for image_id in sizes}
    for annotation in content["annotations"]:
        x, y, width, height = annotation["bbox"]
        objects[annotation["image_id"]].append(
            {
                "region_id": str(annotation["id"]),
                "category": categories[annotation["category_id"]],
                "x": x,
                "y": y,
                "width": width,
                "height": height,
                "segmentation": annotation["segmentation"],
                "size": sizes[annotation["image_id"]],
            }
        )
    by_file = {}
    for image in content["images"]:
        by_file.setdefault(image["file_name"], []).append(objects[image["id"]])
    return by_file


def ends_of(path):
    """The path and what is left of it without its first folders: a/b/c, b/c, c."""
    parts = Path(path).parts
    return ["/".join(parts[start:]) for start in range(len(parts))]


def encoded(segmentation, height, width):
    """A COCO segmentation (polygons, uncompressed or compressed RLE) as compressed RLE text."""
    if segmentation == []:
        return {"size": (height, width), "counts": NO_MASK}
    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], str):
        return segmentation
    rle = coco_mask.frPyObjects(segmentation, height, width)
    if isinstance(rle, list):
        rle = coco_mask.merge(rle)
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def with_masks(truth):
    """The rows of the truth table that have a mask, not only a box."""
    return truth[truth["mask_counts"] != NO_MASK]


def decode_mask(row):
    """Bool array (height, width) of one row of the truth table that has a mask."""
    rle = {"size": [row.mask_height, row.mask_width], "counts": row.mask_counts.encode()}
    return coco_mask.decode(rle).astype(bool)


def box_mask(row):
    """Bool array (height, width) of the pixels that the box of one row of the truth table touches.

    x, y, width and height are in pixels; what lies outside the image is cut off.
    """
    mask = np.zeros((row.mask_height, row.mask_width), bool)
    top, left = max(int(np.floor(row.y)), 0), max(int(np.floor(row.x)), 0)
    mask[top : int(np.ceil(row.y + row.height)), left : int(np.ceil(row.x + row.width))] = True
    return mask


def coverage(mask, grid):
    """Fraction of each cell of a (rows, columns) grid that `mask` covers; (rows, columns)."""
    rows = np.linspace(0, mask.shape[0], grid[0] + 1).round().astype(int)
    columns = np.linspace(0, mask.shape[1], grid[1] + 1).round().astype(int)
    totals = np.add.reduceat(np.add.reduceat(mask.astype(float), rows[:-1], 0), columns[:-1], 1)
    return totals / np.outer(np.diff(rows), np.diff(columns))


def box_coverage(mask, boxes):
    """Fraction of each box (x1, y1, x2, y2 as shares of the image) that `mask` covers; (N,).

    Edges are rounded to whole pixels; a box smaller than a pixel takes the pixel it lies on.
    """
    height, width = mask.shape
    total = np.pad(mask.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    x1, y1 = (np.floor(boxes[:, k] * s + 0.5).astype(int) for k, s in ((0, width), (1, height)))
    x2, y2 = (np.floor(boxes[:, k] * s + 0.5).astype(int) for k, s in ((2, width), (3, height)))
    x1, y1 = x1.clip(0, width - 1), y1.clip(0, height - 1)
    x2, y2 = np.maximum(x2.clip(0, width), x1 + 1), np.maximum(y2.clip(0, height), y1 + 1)
    inside = total[y2, x2] - total[y1, x2] - total[y2, x1] + total[y1, x1]
    return inside / ((x2 - x1) * (y2 - y1))
