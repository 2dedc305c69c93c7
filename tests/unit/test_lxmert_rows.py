"""The published table of region features: rows made up here, and ten real ones (../shared)."""

import base64
from contextlib import suppress

import numpy as np
import pytest
from conftest import SHARED
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mmlens.features.boxes import lxmert_boxes
from mmlens.features.lxmert_rows import COLUMNS, index_tsv, read_row, read_tsv
from mmlens.table import DataError

REAL = SHARED / "data/lxmert_vg36"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is missing")


def coded(array):
    return base64.b64encode(np.ascontiguousarray(array).tobytes())


def arrays(count, box_type=np.float32):
    """Made-up arrays of one row, in their types on disk."""
    random = np.random.default_rng(count)
    return {
        "objects_id": random.integers(0, 1600, count),
        "objects_conf": random.random(count, np.float32),
        "attrs_id": random.integers(0, 400, count),
        "attrs_conf": random.random(count, np.float32),
        "boxes": (random.random((count, 4)) * 50).astype(box_type),
        "features": random.random((count, 2048), np.float32),
    }


def row(name="COCO_val2014_000000000042", count=3, box_type=np.float32, **changes):
    """One line as bytes; `changes` are cells (bytes) that replace those of a good row."""
    numbers = {"img_id": name.encode(), "img_h": b"60", "img_w": b"80"}
    cells = {column: coded(array) for column, array in arrays(count, box_type).items()}
    cells = {**numbers, "num_boxes": str(count).encode(), **cells, **changes}
    return b"\t".join(cells[column] for column in COLUMNS) + b"\n"


def write(path, *lines):
    path.write_bytes(b"".join(lines))
    return path


def assert_same(found, wanted):
    assert (found.img_id, found.size) == (wanted.img_id, wanted.size)
    for name in ("boxes", "features", "objects_id", "objects_conf"):
        assert np.array_equal(getattr(found, name), getattr(wanted, name))


@pytest.mark.parametrize("count", [1, 3, 36])
@pytest.mark.parametrize("box_type", [np.float32, np.float64])
def test_rows_come_back_as_written(tmp_path, count, box_type):
    last = row("b", 2).replace(b"\n", b"")
    path = write(tmp_path / "table.tsv", row("a", count, box_type), last)
    first, second = read_tsv(path)
    made = arrays(count, box_type)
    assert (first.img_id, first.size, second.img_id) == ("a", (80, 60), "b")
    assert first.boxes.dtype == first.features.dtype == first.objects_conf.dtype == np.float32
    assert first.objects_id.dtype == np.int64
    assert np.array_equal(first.boxes, made["boxes"].astype(np.float32))
    for name in ("features", "objects_id", "objects_conf"):
        assert np.array_equal(getattr(first, name), made[name])
    first.features[0, 0] = 1  # a row owns its arrays


def test_rows_are_found_by_their_offset(tmp_path):
    lines = [row(f"image{k}", k + 1) for k in range(5)]
    path = write(tmp_path / "table.tsv", *lines)
    offsets = index_tsv(path)
    assert list(offsets) == [f"image{k}" for k in range(5)]
    assert offsets["image2"] == len(lines[0]) + len(lines[1])
    for wanted in read_tsv(path):
        assert_same(read_row(path, offsets[wanted.img_id]), wanted)


def test_windows_line_ends_are_no_part_of_the_features(tmp_path):
    path = write(tmp_path / "table.tsv", row().replace(b"\n", b"\r\n"), row("b"))
    assert [found.img_id for found in read_tsv(path)] == ["COCO_val2014_000000000042", "b"]


good = arrays(3)
nan = good["features"].copy()
nan[1, 7] = np.nan
infinite = good["boxes"].copy()
infinite[0, 0] = np.inf
FAULTS = {
    "img_id": {"": "expected a name", "\xff": "expected a name"},
    "img_h": {"0": "'0'; expected a positive whole number", "60.0": "expected a positive"},
    "img_w": {"-5": "expected a positive", "9" * 5000: "expected a positive"},
    "num_boxes": {"": "expected a positive", "x": "expected a positive"},
    "boxes": {
        coded(good["boxes"][:2]): "32 bytes; expected 48 (<f4) or 96 (<f8) for 3 boxes",
        coded(infinite): "1 of 12 values are not finite",
    },
    "features": {
        coded(good["features"])[:-4]: "24573 bytes; expected 24576 (<f4) for 3 boxes",
        coded(good["features"])[:-1]: "invalid base64",
        coded(nan): "1 of 6144 values are not finite",
        b"*" + coded(good["features"]): "invalid base64",
        b"": "0 bytes",
    },
    "objects_id": {coded(good["objects_id"].astype(np.int32)): "12 bytes; expected 24"},
    "objects_conf": {coded(good["objects_conf"].astype(float)): "24 bytes; expected 12"},
}
CASES = [
    (column, cell.encode("latin-1") if isinstance(cell, str) else cell, expected)
    for column, cells in FAULTS.items()
    for cell, expected in cells.items()
]


@pytest.mark.parametrize(
    ("column", "cell", "expected"), CASES, ids=[f"{c}{k}" for k, (c, _, _) in enumerate(CASES)]
)
def test_fault_is_named_by_file_line_and_column(tmp_path, column, cell, expected):
    path = write(tmp_path / "table.tsv", row("a"), row("b", **{column: cell}), row("c"))
    rows = read_tsv(path)
    assert next(rows).img_id == "a"
    with pytest.raises(DataError) as caught:
        next(rows)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path} line 2 column {column}: ")
    assert expected in problem
    assert len(problem) < 400 + len(str(path))
    with pytest.raises(DataError, match=f"at byte {len(row('a'))} column {column}: "):
        read_row(path, len(row("a")))


def test_all_faults_of_a_row_are_reported_at_once(tmp_path):
    path = write(tmp_path / "table.tsv", row(img_h=b"?", boxes=b"", features=b"AAAA"))
    with pytest.raises(DataError) as caught:
        list(read_tsv(path))
    columns = [problem.split("column ")[1].split(":")[0] for problem in caught.value.problems]
    assert columns == ["img_h", "boxes", "features"]


def test_wrong_columns_and_repeated_images_are_reported_at_once(tmp_path):
    cut = row("c").rsplit(b"\t", 1)[0] + b"\n"
    path = write(tmp_path / "table.tsv", row("a"), cut, b"\n", row("a"), row("b"))
    with pytest.raises(DataError) as caught:
        index_tsv(path)
    assert [problem.split(";")[0] for problem in caught.value.problems] == [
        f"{path} line 2: 9 columns",
        f"{path} line 3: 1 columns",
        f"{path} line 4 column img_id: 'a' again, first in line 1",
    ]
    with pytest.raises(DataError, match="line 2: 9 columns; expected 10: img_id, img_h"):
        list(read_tsv(path))


def test_an_empty_table_and_a_wrong_offset_are_named(tmp_path):
    path = write(tmp_path / "table.tsv")
    with pytest.raises(DataError, match="empty; expected one image per line"):
        index_tsv(path)
    write(path, row("a"))
    for offset in (5, len(row("a"))):
        with pytest.raises(DataError, match=f"at byte {offset}"):
            read_row(path, offset)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_never_gives_another_shape(tmp_path, data):
    line = bytearray(row(count=2))
    for _ in range(data.draw(st.integers(1, 3))):
        line[data.draw(st.integers(0, len(line) - 1))] = data.draw(st.integers(0, 255))
    length = data.draw(st.integers(1, len(line)) | st.just(len(line)))
    path = write(tmp_path / "table.tsv", bytes(line[:length]))
    found = []
    with suppress(DataError):
        found = list(read_tsv(path))
    assert all(len(r.boxes) == len(r.features) == len(r.objects_id) for r in found)
    assert all(np.isfinite(r.features).all() and r.size > (0, 0) for r in found)


@needs_real
def test_real_rows_fit_their_images():
    table = REAL / "train2014_obj36.tsv"
    words = (REAL / "genome/objects_vocab.txt").read_text().splitlines()
    offsets = index_tsv(table)
    rows = list(read_tsv(table))
    assert len(rows) == len(offsets) == 10
    for found in rows:
        assert found.boxes.shape == (36, 4)
        assert found.features.shape == (36, 2048)
        assert found.objects_id.max() < len(words)
        assert (found.features >= 0).all()  # a mean after a ReLU
        assert ((found.objects_conf > 0) & (found.objects_conf <= 1)).all()
        with Image.open(REAL / f"train2014/{found.img_id}.jpg") as image:
            assert image.size == found.size
        codes = lxmert_boxes(found.boxes, *found.size)
        assert ((codes >= 0) & (codes <= 1)).all()
        assert_same(read_row(table, offsets[found.img_id]), found)
    kitchen = next(found for found in rows if found.img_id.endswith("201446"))
    best = kitchen.objects_id[kitchen.objects_conf.argsort()[::-1][:2]]
    assert [words[label] for label in best] == ["carrot", "onion"]
