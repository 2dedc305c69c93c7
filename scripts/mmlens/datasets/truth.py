"""Ground truth of explanations: the masks of the objects and the words that name them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from pycocotools import mask as coco_mask

from ..table import DataError

COLUMNS = ("sample_id", "region_id", "category", "x", "y", "width", "height")
MASK_COLUMNS = ("mask_height", "mask_width", "mask_counts", "named", "word_spans")


def read_truth(samples, instances, named, spans):
    """One row per sample and object of its image.

    Parameters
    ----------
    samples : DataFrame with sample_id, split, image
    instances : {split: path} of COCO instances files
    named : {sample_id: annotation id of the object that decides the label}
    spans : {sample_id: JSON list of (start, end) character spans of the deciding words}

    Returns
    -------
    DataFrame with sample_id, region_id, category, box (x, y, width, height in pixels), mask
    (RLE: mask_height, mask_width, mask_counts), named (bool), word_spans (JSON).
    """
    rows = []
    for split, path in instances.items():
        categories, by_file = read_instances(path)
        chosen = samples[samples["split"] == split]
        for sample_id, image_path in zip(chosen["sample_id"], chosen["image"], strict=True):
            for image, annotation in objects_of(image_path, by_file):
                x, y, width, height = annotation["bbox"]
                rle = encoded(annotation["segmentation"], image["height"], image["width"])
                rows.append(
                    {
                        "sample_id": sample_id,
                        "region_id": str(annotation["id"]),
                        "category": categories[annotation["category_id"]],
                        "x": x,
                        "y": y,
                        "width": width,
                        "height": height,
                        "mask_height": rle["size"][0],
                        "mask_width": rle["size"][1],
                        "mask_counts": rle["counts"],
                        "named": str(annotation["id"]) == str(named.get(sample_id, "")),
                        "word_spans": spans.get(sample_id, "[]"),
                    }
                )
    return pd.DataFrame(rows, columns=[*COLUMNS, *MASK_COLUMNS])


def read_instances(path):
    """({category id: name}, {file name: [(image, annotation), ...]}) of a COCO instances file.

    Raises
    ------
    DataError if the file is not JSON of that form.
    """
    try:
        with open(path, encoding="utf-8") as handle:
            content = json.load(handle)
        categories = {c["id"]: c["name"] for c in content["categories"]}
        files = {image["id"]: image for image in content["images"]}
        by_file = {}
        for annotation in content["annotations"]:
            image = files[annotation["image_id"]]
            by_file.setdefault(image["file_name"], []).append((image, annotation))
    except (ValueError, KeyError, TypeError) as error:
        problem = f"{path}: not a COCO instances file ({type(error).__name__}: {error})"
        raise DataError("the data set cannot be used", [problem]) from None
    return categories, by_file


def objects_of(image_path, by_file):
    """Objects of the image whose file name is the path, or the longest end of it that is known."""
    parts = Path(image_path).parts
    ends = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((by_file[end] for end in ends if end in by_file), [])


def encoded(segmentation, height, width):
    """A COCO segmentation (polygons, uncompressed or compressed RLE) as compressed RLE text."""
    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], str):
        return segmentation
    rle = coco_mask.frPyObjects(segmentation, height, width)
    if isinstance(rle, list):
        rle = coco_mask.merge(rle)
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def decode_mask(row):
    """Bool array (height, width) of one row of the truth table."""
    rle = {"size": [row.mask_height, row.mask_width], "counts": row.mask_counts.encode()}
    return coco_mask.decode(rle).astype(bool)


def coverage(mask, grid):
    """Fraction of each cell of a (rows, columns) grid that `mask` covers; (rows, columns)."""
    rows = np.linspace(0, mask.shape[0], grid[0] + 1).round().astype(int)
    columns = np.linspace(0, mask.shape[1], grid[1] + 1).round().astype(int)
    totals = np.add.reduceat(np.add.reduceat(mask.astype(float), rows[:-1], 0), columns[:-1], 1)
    return totals / np.outer(np.diff(rows), np.diff(columns))
