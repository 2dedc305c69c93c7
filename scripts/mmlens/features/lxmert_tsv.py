"""The published region features of LXMERT, looked up by the name of the image file."""

from pathlib import Path

import numpy as np

from ..files import sha256_file
from ..table import DataError
from . import register_extractor
from .base import Extractor
from .boxes import lxmert_boxes
from .lxmert_rows import WIDTH, index_tsv, read_row


@register_extractor("lxmert_tsv")
class LxmertTsv(Extractor):
    """36 regions of 2048 features (Tan & Bansal 2019), computed by others.

    table : path of a file such as val2014_obj36.tsv; its img_id is the name of the image file
        without suffix
    """

    reads_images = False
    tokens, width = 36, WIDTH

    def __init__(self, table=None):
        key = "features.settings.lxmert_tsv.table"
        if not table:
            raise DataError("features", [f"{key}: not set; give the file of region features"])
        if not Path(table).is_file():
            raise DataError("features", [f"{table}: no such file; correct {key}"])
        self.table = table
        self.offsets = index_tsv(table)

    def settings(self):
        return {"table": sha256_file(self.table)}

    def extract(self, images):
        names = [Path(image).stem for image in images]
        missing = [f"{self.table}: no row of {name}" for name in names if name not in self.offsets]
        if missing:
            raise DataError("features", missing)
        found = [self.regions(read_row(self.table, self.offsets[name])) for name in names]
        return {name: np.stack([part[name] for part in found]) for name in found[0]}

    def regions(self, row):
        """Arrays of one row, padded to 36 regions."""
        count = len(row.boxes)
        if count > self.tokens:
            problem = f"{self.table}: {row.img_id} has {count} regions, at most {self.tokens}"
            raise DataError("features", [problem])
        rest = ((0, self.tokens - count), (0, 0))
        return {
            "features": np.pad(row.features, rest),
            "boxes": np.pad(lxmert_boxes(row.boxes, *row.size), rest),
            "valid": np.arange(self.tokens) < count,
            "objects": np.pad(row.objects_id, rest[0]),
            "confidences": np.pad(row.objects_conf, rest[0]),
        }
