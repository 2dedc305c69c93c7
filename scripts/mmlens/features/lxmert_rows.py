"""The published region features of LXMERT: a tab-separated table, one image per line.

Columns are COLUMNS, arrays in base64 (Tan & Bansal 2019; the layout goes back to Anderson et
al. 2018). A table of a whole data set holds tens of GB, so nothing here reads more than a line.
"""

import base64
import binascii
import re
from dataclasses import dataclass

import numpy as np

from ..table import DataError

COLUMNS = (
    *("img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf"),
    *("num_boxes", "boxes", "features"),
)
WIDTH = 2048  # length of a feature
# Shape after the number of boxes, and the types that occur, told apart by the number of bytes.
ARRAYS = {
    "objects_id": ((), ("<i8",), np.int64),
    "objects_conf": ((), ("<f4",), np.float32),
    "boxes": ((4,), ("<f4", "<f8"), np.float32),
    "features": ((WIDTH,), ("<f4",), np.float32),
}


@dataclass(frozen=True)
class LxmertRow:
    """The regions of one image, N = num_boxes of them (36 in the published tables).

    Attributes
    ----------
    img_id : str
    size : (width, height) of the image, in pixels
    boxes : float32 (N, 4), x1, y1, x2, y2 in pixels
    features : float32 (N, 2048)
    objects_id : int64 (N,), lines (from 0) of the object vocabulary
    objects_conf : float32 (N,), probabilities of objects_id
    """

    img_id: str
    size: tuple
    boxes: np.ndarray
    features: np.ndarray
    objects_id: np.ndarray
    objects_conf: np.ndarray


def read_tsv(path):
    """Yield an `LxmertRow` per line of a table.

    Raises
    ------
    DataError at the first line that cannot be read, with everything that is wrong with it.
    """
    with open(path, "rb") as handle:
        for number, line in enumerate(handle, start=1):
            yield parse_row(line, f"{path} line {number}")


def index_tsv(path):
    """{img_id: byte offset of its line} of a table, for `read_row`; reads the file once.

    Raises
    ------
    DataError with every line that has not the columns of a row or repeats an img_id, and if
    there is no line. Arrays are not decoded here.
    """
    offsets, lines, problems = {}, {}, []
    offset = 0
    with open(path, "rb") as handle:
        for number, line in enumerate(handle, start=1):
            at = f"{path} line {number}"
            try:
                img_id = text_of(split_row(line, at)["img_id"], at)
            except DataError as error:
                problems += error.problems
            else:
                if img_id in offsets:
                    problems.append(
                        f"{at} column img_id: {img_id!r} again, first in line {lines[img_id]}; "
                        f"keep one row"
                    )
                offsets.setdefault(img_id, offset)
                lines.setdefault(img_id, number)
            offset += len(line)
    if not offset:
        problems.append(f"{path}: empty; expected one image per line")
    if problems:
        raise DataError("region features", problems)
    return offsets


def read_row(path, offset):
    """The `LxmertRow` whose line starts at a byte offset of `index_tsv`; errors as `read_tsv`."""
    with open(path, "rb") as handle:
        handle.seek(offset)
        return parse_row(handle.readline(), f"{path} at byte {offset}")


def parse_row(line, at):
    """The `LxmertRow` of one line (bytes); `at` says in errors where it stands."""
    cells = split_row(line, at)
    problems, numbers = [], {}
    for column in ("img_h", "img_w", "num_boxes"):
        if re.fullmatch(rb"[1-9][0-9]{0,6}", cells[column]):
            numbers[column] = int(cells[column])
        else:
            found = shown(cells[column])
            problems.append(f"{at} column {column}: {found}; expected a positive whole number")
    arrays = {}
    if "num_boxes" in numbers:
        for column in ARRAYS:
            try:
                arrays[column] = decode_array(cells[column], column, numbers["num_boxes"])
            except ValueError as error:
                problems.append(f"{at} column {column}: {error}; download the file again")
    try:
        img_id = text_of(cells["img_id"], at)
    except DataError as error:
        problems += error.problems
    if problems:
        raise DataError("region features", problems)
    return LxmertRow(img_id=img_id, size=(numbers["img_w"], numbers["img_h"]), **arrays)


def split_row(line, at):
    """{column: bytes} of one line; DataError if it has not as many columns."""
    cells = line.rstrip(b"\r\n").split(b"\t")
    if len(cells) != len(COLUMNS):
        raise DataError(
            "region features",
            [f"{at}: {len(cells)} columns; expected {len(COLUMNS)}: {', '.join(COLUMNS)}"],
        )
    return dict(zip(COLUMNS, cells, strict=True))


def text_of(cell, at):
    """An img_id as text; DataError if it is empty or no UTF-8."""
    try:
        text = cell.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if not text:
        problem = f"{at} column img_id: {shown(cell)}; expected a name in UTF-8"
        raise DataError("region features", [problem])
    return text


def decode_array(cell, column, count):
    """The array of a base64 cell: (count, ...) as ARRAYS says; ValueError if it is not one."""
    shape, kinds, kept = ARRAYS[column]
    try:
        content = base64.b64decode(cell, validate=True)
    except binascii.Error as error:
        raise ValueError(f"invalid base64 ({error}); found {shown(cell)}") from None
    lengths = {np.dtype(kind).itemsize * count * int(np.prod(shape)): kind for kind in kinds}
    if len(content) not in lengths:
        expected = " or ".join(f"{length} ({kind})" for length, kind in lengths.items())
        raise ValueError(f"{len(content)} bytes; expected {expected} for {count} boxes")
    array = np.frombuffer(content, lengths[len(content)]).reshape(count, *shape).astype(kept)
    wrong = np.count_nonzero(~np.isfinite(array))
    if wrong:
        raise ValueError(f"{wrong} of {array.size} values are not finite")
    return array


def shown(cell):
    """A cell for a message, cut to its start."""
    return repr(cell[:40].decode("utf-8", "replace"))
