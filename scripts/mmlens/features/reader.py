"""Reading cached features: batches straight from the memory-mapped shards."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..table import DataError
from .store import gather


@dataclass(frozen=True)
class FeatureBatch:
    """Features of B images.

    features : float32 (B, N, D); boxes : float32 (B, N, 4), x1 y1 x2 y2 as shares of the image;
    valid : bool (B, N), False for padding.
    """

    features: np.ndarray
    boxes: np.ndarray
    valid: np.ndarray


class FeatureReader:
    """The features of a run's images, as listed in results/<run>/features/<extractor>/.

    Attributes
    ----------
    width : D; tokens : N; grid : (rows, columns) of the patches, or None for regions;
    settings : of the extractor, those that change the features
    """

    def __init__(self, index):
        index = Path(index)
        facts = json.loads(index.with_name("facts.json").read_text(encoding="utf-8"))
        self.folder = facts["folder"]
        self.width, self.tokens = facts["width"], facts["tokens"]
        self.settings = facts["settings"]
        self.grid = tuple(facts["grid"]) if facts["grid"] else None
        table = pd.read_parquet(index)
        self.places = dict(
            zip(table["image"], zip(table["shard"], table["row"], strict=True), strict=True)
        )
        if not Path(self.folder).is_dir():
            raise DataError(
                "features",
                [f"{self.folder}: no such folder; run snakemake --forcerun extract_features"],
            )

    def places_of(self, images):
        """(shard, row) of image paths, int array (n, 2); DataError naming those without."""
        missing = [f"{image}: no features" for image in images if image not in self.places]
        if missing:
            raise DataError("features", missing)
        return np.array([self.places[image] for image in images], int).reshape(-1, 2)

    def read(self, places):
        """The `FeatureBatch` of rows of `places_of`."""
        shards, rows = places.T
        features, boxes, valid = (
            gather(self.folder, shards, rows, name) for name in ("features", "boxes", "valid")
        )
        return FeatureBatch(features.astype(np.float32), boxes, valid)
