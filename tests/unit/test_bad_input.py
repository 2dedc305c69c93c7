"""Faulty input: every problem is reported at once, with file, line and remedy."""

import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mmlens.datasets import DATASETS
from mmlens.datasets.hateful_memes import KEYS, read_lines
from mmlens.datasets.samples import build_samples
from mmlens.table import SHOWN_PROBLEMS, DataError

GOOD = {"id": "00", "img": "img/good.jpg", "label": 0, "text": "hello"}


@pytest.fixture
def root(tmp_path):
    """A folder with one good image, half a JPEG and a text file called .png."""
    folder = tmp_path / "img"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "good.jpg")
    content = (folder / "good.jpg").read_bytes()
    (folder / "half.jpg").write_bytes(content[: len(content) // 2])
    (folder / "text.png").write_text("this is no image")
    return tmp_path


def build(root, lines, modalities=("image", "text"), **more):
    """build_samples of a jsonl file with these lines (dicts or raw text)."""
    raw = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (root / "train.jsonl").write_text("".join(line + "\n" for line in raw), encoding="utf-8")
    own = {"root": str(root), "files": {"train": "train.jsonl"}, **more}
    return build_samples(DATASETS.get("hateful_memes")(own), modalities=modalities)


def error_of(call, *arguments, **options):
    with pytest.raises(DataError) as caught:
        call(*arguments, **options)
    return caught.value


def without(key):
    return {name: value for name, value in GOOD.items() if name != key}


# The second line of the file, and what the message about it says: the fault, then the remedy.
FAULTS = {
    "missing image": ({"img": "img/gone.jpg"}, "img/gone.jpg is missing", "download it"),
    "half an image": ({"img": "img/half.jpg"}, "img/half.jpg cannot be decoded", "replace"),
    "no image": ({"img": "img/text.png"}, "img/text.png cannot be decoded", "replace the file"),
    "a folder": ({"img": "img"}, "img cannot be decoded", "replace the file"),
    "empty image": ({"img": ""}, "empty image of id '01'", "fill it"),
    "duplicate id": ({"id": "00"}, "duplicate id '00', first in", "make ids unique"),
    "empty id": ({"id": ""}, "empty id", "every sample needs one"),
    "label 2": ({"label": 2}, "label 2 of id '01'", "expected 0 or 1"),
    "label text": ({"label": "hateful"}, 'label "hateful" of id', "expected 0 or 1"),
    "label true": ({"label": True}, "label true of id '01'", "expected 0 or 1"),
    "label list": ({"label": [0]}, "label [0] of id '01'", "expected 0 or 1"),
    "empty text": ({"text": ""}, "empty text of id '01'", "fill it"),
    "blank text": ({"text": " \t"}, "empty text of id '01'", "fill it"),
    "text null": ({"text": None}, "empty text of id '01'", "fill it"),
    "text number": ({"text": 5}, "empty text of id '01' (5)", "fill it"),
}
BROKEN = {
    "invalid JSON": ('{"id": "01", ', "invalid JSON", "write one JSON object per line"),
    "blank line": ("", "invalid JSON", "write one JSON object per line"),
    "a list": ("[1, 2]", "no key id, img, label, text", "expected id, img, label, text"),
    "a number": ("5", "no key id, img, label, text", "expected id, img, label, text"),
    **{
        f"no key {key}": (without(key), f"no key {key};", "expected id, img, label, text")
        for key in KEYS
    },
}
LINES = {name: ({**GOOD, "id": "01", **c}, f, r) for name, (c, f, r) in FAULTS.items()} | BROKEN


@pytest.mark.parametrize("name", LINES)
def test_fault_is_named_with_file_line_and_remedy(root, name):
    line, fault, remedy = LINES[name]
    error = error_of(build, root, [GOOD, line])
    (problem,) = error.problems
    assert problem.startswith(f"{root / 'train.jsonl'} line 2: ")
    assert fault in problem
    assert remedy in problem
    assert problem in str(error)


@pytest.mark.parametrize(("label", "shown"), [(None, "null"), (1.5, "1.5")])
def test_odd_label_spoils_no_other_line(root, label, shown):
    error = error_of(build, root, [GOOD, {**GOOD, "id": "01", "label": label}])
    (problem,) = error.problems
    assert f"train.jsonl line 2: label {shown} of id '01'; expected 0 or 1" in problem


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"img": 5}, "img 5; expected the path of an image, or null"),
        ({"img": ["a"]}, 'img ["a"]; expected the path of an image, or null'),
        ({"id": None}, "id null; expected a text or a whole number"),
        ({"id": True}, "id true; expected a text or a whole number"),
        ({"text": "\ud800"}, 'text "\\ud800"; expected valid Unicode'),
        ({"id": "\ud800"}, 'id "\\ud800"; expected valid Unicode'),
    ],
)
def test_values_of_wrong_type_are_problems(root, change, found):
    (problem,) = error_of(build, root, [GOOD, {**GOOD, "id": "01", **change}]).problems
    assert problem == f"{root / 'train.jsonl'} line 2: {found}"


def test_deeply_nested_json_is_a_problem(root):
    (problem,) = error_of(build, root, [GOOD, "[" * 100_000]).problems
    assert "line 2: invalid JSON" in problem


@pytest.mark.parametrize("text", [None, {"a": 1}])
def test_text_that_no_model_reads_may_be_anything(root, text):
    samples, _, _ = build(root, [{**GOOD, "text": text}], modalities=("image",))
    assert samples["text"].tolist() == [""]


def test_only_modalities_that_are_read_must_be_there(root):
    samples, _, _ = build(root, [{**GOOD, "img": None}], modalities=("text",))
    assert samples["image"].tolist() == [""]
    samples, _, _ = build(root, [{**GOOD, "text": ""}], modalities=("image",))
    assert samples["text"].tolist() == [""]


def test_missing_file_is_named_with_its_key(root):
    own = {"root": str(root), "files": {"train": "gone.jsonl", "val": "none.jsonl"}}
    error = error_of(build_samples, DATASETS.get("hateful_memes")(own))
    for problem, split in zip(error.problems, ("train", "val"), strict=True):
        assert problem.startswith(f"{root / own['files'][split]}: no such file")
        assert f"dataset.files.{split}" in problem


def test_missing_instances_file_is_named_with_its_key(root):
    (problem,) = error_of(build, root, [GOOD], instances={"train": "gone.json"}).problems
    assert "gone.json: no such file" in problem
    assert "dataset.instances.train" in problem


def test_empty_file_is_a_problem(root):
    (problem,) = error_of(build, root, []).problems
    assert "train.jsonl" in problem


def test_all_faults_are_reported_at_once(root):
    lines = [GOOD, *(line for line, _, _ in LINES.values())]
    error = error_of(build, root, lines)
    for number, (name, (_, fault, _)) in enumerate(LINES.items(), start=2):
        at = f"{root / 'train.jsonl'} line {number}: "
        mine = [problem for problem in error.problems if problem.startswith(at)]
        assert any(fault.split(" of id")[0] in problem for problem in mine), name
    assert str(error).startswith(f"the data set cannot be used: {len(error.problems)} problems\n")
    assert all(problem in str(error) for problem in error.problems)


def test_very_many_faults_are_counted_and_not_all_shown(root):
    error = error_of(build, root, ["no json"] * (SHOWN_PROBLEMS + 50))
    assert len(error.problems) == SHOWN_PROBLEMS + 50
    assert str(error).endswith("... and 50 more")
    assert len(str(error).splitlines()) == SHOWN_PROBLEMS + 2


CSV_FAULTS = {
    "gone.png,hi,0": "gone.png is missing",
    "img/half.jpg,hi,0": "cannot be decoded",
    "img/good.jpg,,0": "empty text of id 'row2'",
    ",hi,0": "empty image of id 'row2'",
    "img/good.jpg,hi,": "label \"\" of id 'row2'; expected 0 or 1",
    "img/good.jpg,hi,1.0": "label \"1.0\" of id 'row2'; expected 0 or 1",
    "img/good.jpg,hi": "2 cells, the header has 3; quote commas",
}


def build_csv(root, content):
    (root / "table.csv").write_bytes(content)
    return build_samples(DATASETS.get("csv")({"root": str(root), "table": "table.csv"}))


@pytest.mark.parametrize("row", CSV_FAULTS)
def test_csv_fault_is_named_with_file_and_line(root, row):
    content = f"image,text,label\nimg/good.jpg,fine,1\n{row}\n"
    (problem,) = error_of(build_csv, root, content.encode()).problems
    assert problem.startswith(f"{root / 'table.csv'} line 3: ")
    assert CSV_FAULTS[row] in problem


def test_csv_without_its_columns_or_its_file(root):
    (problem,) = error_of(build_csv, root, b"img,text,y\na,b,0\n").problems
    assert problem == f"{root / 'table.csv'}: no column image, label; found img, text, y"
    (root / "table.csv").unlink()
    reading = DATASETS.get("csv")({"root": str(root), "table": "table.csv"})
    (problem,) = error_of(build_samples, reading).problems
    assert problem == f"{root / 'table.csv'}: no such file; set dataset.table"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"image,text,label\n",
        b"image,text,label\nimg/good.jpg,a,0\nimg/good.jpg,one, two,0\n",
        b'image,text,label\nimg/good.jpg,"never closed,0\n',
        b"image,text,label\nimg/good.jpg,h\xe9,0\n",
        b"image,text,label,label\nimg/good.jpg,a,0,1\n",
    ],
)
def test_csv_that_is_no_table_is_one_problem_that_names_the_file(root, content):
    (problem,) = error_of(build_csv, root, content).problems
    assert str(root / "table.csv") in problem


def test_lines_are_counted_as_in_the_file(root):
    # A byte order mark, a cell of two lines, a blank line; the faulty row is on line 5.
    content = b'\xef\xbb\xbfimage,text,label\nimg/good.jpg,"two\nlines",0\n\nimg/good.jpg,,0\n'
    (problem,) = error_of(build_csv, root, content).problems
    assert problem.startswith(f"{root / 'table.csv'} line 5: empty text of id 'row2'")


@pytest.mark.parametrize("content", [b"", b"sample_id,group_a\n", b"sample_id,group_a\n00,b,c\n"])
def test_group_table_that_is_no_table_is_one_problem_that_names_the_file(root, content):
    (root / "groups.csv").write_bytes(content)
    groups = {"table": str(root / "groups.csv"), "on": "sample_id"}
    (problem,) = error_of(build, root, [GOOD], groups=groups).problems
    assert str(root / "groups.csv") in problem


def test_splits_that_a_run_needs_are_there_with_both_labels(root):
    (root / "table.csv").write_text(
        "image,text,label,split\nimg/good.jpg,a,0,dev\nimg/good.jpg,b,0,train\n"
    )
    reading = DATASETS.get("csv")({"root": str(root), "table": "table.csv"})
    with pytest.raises(DataError) as caught:
        build_samples(reading, splits=("train", "val"))
    at, train, val = caught.value.problems
    assert at == f"{root / 'table.csv'} line 2: split 'dev'; expected one of train, val"
    assert train.startswith("split train: only label 0")
    assert val.startswith("split val: no samples")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
RECORDS = st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, JSON_VALUES))
GARBAGE = st.one_of(
    st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b"").replace(b"\r", b"")),
    JSON_VALUES.map(lambda value: json.dumps(value).encode()),
    RECORDS.map(lambda value: json.dumps({**value, "img": "img/good.jpg"}).encode()),
)


# The folder is shared by all examples, which write one file each over the last one.
@settings(derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(GARBAGE, min_size=1, max_size=4))
def test_random_lines_are_read_or_are_problems(root, lines):
    path = root / "garbage.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    rows, problems = [], []
    read_lines(path, "train", root, rows, problems)
    assert len(rows) + len(problems) == len(lines)
    assert all(problem.startswith(f"{path} line ") for problem in problems)
    own = {"root": str(root), "files": {"train": "garbage.jsonl"}}
    # Whatever it is, it ends as a table or as a list of problems.
    with suppress(DataError):
        build_samples(DATASETS.get("hateful_memes")(own))
