"""The Hateful-Memes layout: one JSON object per line with id, img, label and text."""

import json
from pathlib import Path

import pandas as pd

from . import register_dataset
from .reading import COLUMNS, Reading
from .records import is_encodable

KEYS = ("id", "img", "label", "text")


@register_dataset("hateful_memes")
def read(settings):
    """Read jsonl files into a `Reading`.

    Parameters
    ----------
    settings : dict
        root: folder that paths are relative to; files: {split: jsonl}; optional groups
        {table, on} and instances {split: COCO instances json}.
    """
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


def read_lines(path, split, root, rows, problems):
    """Append one row per line of a jsonl file, and a problem per line that cannot be read."""
    if not path.is_file():
        problems.append(f"{path}: no such file; expected a jsonl file (dataset.files.{split})")
        return
    lines = path.read_bytes().splitlines()
    if not lines:
        problems.append(f"{path}: empty; expected one JSON object per line")
    for number, line in enumerate(lines, start=1):
        at = f"{path} line {number}"
        try:
            record = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            problems.append(
                f"{at}: invalid JSON ({error}); found {line[:60]!r}; write one JSON object per line"
            )
            continue
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
