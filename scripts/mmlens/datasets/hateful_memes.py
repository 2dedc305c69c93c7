"""The Hateful-Memes layout: one JSON object per line with id, img, label and text."""

import json
from pathlib import Path

import pandas as pd

from . import register_dataset
from .reading import COLUMNS, Reading
from .records import is_encodable, wrong_fields

KEYS = ("id", "img", "label", "text")
# Where an id may stand in several splits, the earliest one keeps it.
SPLITS = ("train", "val", "test")
# (not hateful, hateful) memes of the official files. train.jsonl was published twice; the labels
# of 823 memes differ.
OFFICIAL = {
    "train.jsonl": {"phase1": (5450, 3050), "phase2": (5481, 3019)},
    "dev_seen.jsonl": {"both": (253, 247)},
    "dev_unseen.jsonl": {"both": (340, 200)},
    "test_seen.jsonl": {"both": (510, 490)},
    "test_unseen.jsonl": {"both": (1250, 750)},
}
# Keys of the fine-grained labels, and the columns that they become.
FINE_GRAINED = {"gold_pc": "group_protected_category", "gold_attack": "group_attack"}
UNLABELLED = "unlabelled"
ID_DIGITS = 5


@register_dataset("hateful_memes")
def read(settings):
    """Read jsonl files into a `Reading`.

    An id that stands in two of the splits with the same content (dev_seen and dev_unseen share
    400) is kept in the earlier one and counted for the later one; with another content it is left
    to the checks that follow.

    Parameters
    ----------
    settings : dict
        root: folder that paths are relative to; files: {split: jsonl}; optional groups
        {table, on}, instances {split: COCO instances json}, labels (any, phase1 or phase2: which
        version of the official labels is allowed) and fine_grained {split: jsonl with gold_pc
        and gold_attack}, which become the columns group_protected_category and group_attack.
    """
    reading = read_files(settings)
    root, labels = Path(settings["root"]), settings.get("labels", "any")
    versions = {
        split: label_version(root / name, split, labels, reading)
        for split, name in settings["files"].items()
    }
    shared = drop_shared_ids(reading)
    reading.counts = {
        split: {"shared_ids_dropped": shared.get(split, 0), "label_version": versions[split]}
        for split in versions
    }
    if settings.get("fine_grained"):
        join_fine_grained(reading, root, settings["fine_grained"])
    return reading


def read_files(settings):
    """The `Reading` of jsonl files as they are."""
    root = Path(settings["root"])
    rows, problems = [], []
    for split, name in settings["files"].items():
        read_lines(root / name, split, root, rows, problems)
    return Reading(
        # As objects: one null label must not turn the others into floats.
        samples=pd.DataFrame(rows, columns=list(COLUMNS), dtype=object),
        problems=problems,
        groups=settings.get("groups"),
        instances={s: root / f for s, f in (settings.get("instances") or {}).items()},
    )


def label_version(path, split, wanted, reading):
    """Which official labels a file holds, by their counts: phase1, phase2, both or unknown.

    A version that is not the wanted one is appended to the problems of the reading.
    """
    labels = reading.samples.loc[reading.samples["split"] == split, "label"].tolist()
    counts = (labels.count(0), labels.count(1))
    known = OFFICIAL.get(path.name, {})
    found = next((version for version in known if known[version] == counts), "unknown")
    if wanted != "any" and found not in (wanted, "both"):
        expected = known.get(wanted, known.get("both"))
        expected = f"{expected[0]} and {expected[1]}" if expected else "an official file"
        reading.problems.append(
            f"{path}: {counts[0]} memes are labelled 0 and {counts[1]} are labelled 1 (labels "
            f"{found}); dataset.labels: {wanted} expects {expected}; take the file of that "
            f"version, or set dataset.labels: any"
        )
    return found


def drop_shared_ids(reading):
    """Leave each row whose id, and content, an earlier split has too out of the reading.

    Returns
    -------
    {split: number of rows left out}
    """
    frame = reading.samples
    content = ["sample_id", "image", "text", "label"]
    rank = frame["split"].map({split: k for k, split in enumerate(SPLITS)})
    # As JSON: whatever stands there can be compared, and 1 is not true.
    keys = frame[content].map(json.dumps)
    later = rank > rank.groupby([keys[column] for column in content]).transform("min")
    reading.samples = frame[~later].reset_index(drop=True)
    return frame.loc[later, "split"].value_counts().to_dict()


def join_fine_grained(reading, root, files):
    """Add the columns of FINE_GRAINED to the samples; where there is no label, UNLABELLED."""
    frame, problems = reading.samples, reading.problems
    columns = {column: pd.Series(UNLABELLED, frame.index) for column in FINE_GRAINED.values()}
    for split, name in files.items():
        setting = f"dataset.fine_grained.{split}"
        found = read_fine_grained(root / name, setting, problems)
        own = frame.loc[frame["split"] == split, "sample_id"].str.zfill(ID_DIGITS)
        if found and not own.isin(found.keys()).any():
            problems.append(
                f"{root / name}: has none of the ids of split {split}; give the labels of "
                f"dataset.files.{split} as {setting}"
            )
        for key, column in FINE_GRAINED.items():
            labels = own.map({sample_id: record[key] for sample_id, record in found.items()})
            columns[column].update(labels.dropna())
    reading.samples = frame.assign(**columns)


def read_fine_grained(path, setting, problems):
    """{sample_id: {key of FINE_GRAINED: its values, sorted and joined by "|"}} of one file."""
    fields, found = dict.fromkeys(FINE_GRAINED, list), {}
    for at, record in json_lines(path, setting, problems):
        wrong = wrong_fields(record, {"id": int, **fields})
        wrong = wrong or next(
            (
                f"{key} is {json.dumps(record[key])[:60]}, expected a list of texts"
                for key in fields
                if not record[key] or not all(isinstance(value, str) for value in record[key])
            ),
            "",
        )
        if wrong:
            problems.append(f"{at}: {wrong}")
            continue
        sample_id = str(record["id"]).zfill(ID_DIGITS)  # numbers here, padded texts in the data
        labels = {key: "|".join(sorted(set(record[key]))) for key in fields}
        if found.setdefault(sample_id, labels) != labels:
            problems.append(f"{at}: id {record['id']} occurs again with other labels; keep one")
    return found


def json_lines(path, setting, problems):
    """Yield (file and line, value) of a jsonl file; what cannot be read is a problem."""
    if not path.is_file():
        problems.append(f"{path}: no such file; expected a jsonl file ({setting})")
        return
    lines = path.read_bytes().splitlines()
    if not lines:
        problems.append(f"{path}: empty; expected one JSON object per line")
    for number, line in enumerate(lines, start=1):
        at = f"{path} line {number}"
        try:
            yield at, json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            problems.append(
                f"{at}: invalid JSON ({error}); found {line[:60]!r}; write one JSON object per line"
            )


def read_lines(path, split, root, rows, problems):
    """Append one row per line of a jsonl file, and a problem per line that cannot be read."""
    for at, record in json_lines(path, f"dataset.files.{split}", problems):
        missing = [key for key in KEYS if not isinstance(record, dict) or key not in record]
        if missing:
            problems.append(f"{at}: no key {', '.join(missing)}; expected {', '.join(KEYS)}")
            continue
        wrong = wrong_values(record)
        if wrong:
            problems += [f"{at}: {text}" for text in wrong]
            continue
        rows.append(
            {
                "sample_id": str(record["id"]),
                "split": split,
                "image": str(root / record["img"]) if record["img"] else "",
                "text": record["text"],
                "label": record["label"],
                "at": at,
            }
        )


def wrong_values(record):
    """What is wrong with the types of a record's id, img and text; label is checked later."""
    wrong = []
    if not isinstance(record["id"], str | int) or isinstance(record["id"], bool):
        wrong.append(f"id {json.dumps(record['id'])}; expected a text or a whole number")
    if not isinstance(record["img"], str | None):
        wrong.append(f"img {json.dumps(record['img'])}; expected the path of an image, or null")
    for key in ("id", "img", "text"):
        if isinstance(record[key], str) and not is_encodable(record[key]):
            wrong.append(f"{key} {json.dumps(record[key])}; expected valid Unicode")
    return wrong
