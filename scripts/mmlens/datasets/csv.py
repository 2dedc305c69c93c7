"""A user's own table: columns image, text, label; optional sample_id, split and group_*."""

import json
from pathlib import Path

from ..files import seed_from
from ..table import DataError, read_table
from . import register_dataset
from .answers import best_answer, frequent_answers, is_score
from .reading import Reading
from .records import is_encodable

FRACTIONS = {"train": 0.7, "val": 0.1, "test": 0.2}


@register_dataset("csv")
def read(settings):
    """Read one CSV table into a `Reading`.

    Without a column split, samples are split 70/10/20 by a hash of their image (of their text
    where there is no image), so that one image never crosses splits. Without a column sample_id,
    ids are row1, row2, ...

    In place of label there may be answers: a plain answer, or {answer: score} in JSON, {} for a
    sample without an answer. The label is then the index of the best answer in the vocabulary:
    the answers of the split train, the most frequent first; -1 for a sample with none of them.

    Without either, all labels are -1, which models that are not trained predict all the same.

    Parameters
    ----------
    settings : dict
        root: folder that the table's image paths are relative to; table: path of the CSV,
        relative to root; split: that of all rows, or None; seed: of the split; optional groups
        and instances.
    """
    root = Path(settings["root"])
    path = root / settings["table"]
    if not path.is_file():
        return Reading.unreadable([f"{path}: no such file; set dataset.table"])
    try:
        frame = read_table(path)
    except DataError as error:
        return Reading.unreadable(error.problems)
    if {"label", "answers"} <= set(frame.columns):
        return Reading.unreadable([f"{path}: columns label and answers; keep one of them"])
    target = "answers" if "answers" in frame else "label"
    missing = [column for column in ("image", "text", target) if column not in frame]
    problem = f"{path}: no column {', '.join(missing)}; found {', '.join(frame.columns)}"
    unlabelled = ""
    if missing == ["label"]:  # enough to predict
        frame["label"] = -1
        unlabelled = f"{problem}; add it, or train no model (train: false)"
    elif missing:
        return Reading.unreadable([problem])
    frame["at"] = [f"{path} line {line}" for line in frame.index]
    frame = frame.reset_index(drop=True)
    if "sample_id" not in frame:
        frame["sample_id"] = [f"row{number}" for number in range(1, len(frame) + 1)]
    if settings.get("split"):
        frame["split"] = settings["split"]
    elif "split" not in frame:
        units = frame["image"].where(frame["image"] != "", frame["text"])
        frame["split"] = [split_of(unit, settings.get("seed", 0)) for unit in units]
    frame["image"] = [str(root / name) if name else "" for name in frame["image"]]
    problems = []
    return Reading(
        frame,
        problems,
        settings.get("groups"),
        {s: root / f for s, f in (settings.get("instances") or {}).items()},
        unlabelled=unlabelled,
        **(with_answers(frame, path, problems) if target == "answers" else {}),
    )


def with_answers(frame, path, problems):
    """Turn the column answers into labels; task and vocabulary for the `Reading`."""
    scores = [scores_of(cell) for cell in frame["answers"]]
    for at, cell, found in zip(frame["at"], frame["answers"], scores, strict=True):
        if found is None:
            problems.append(
                f"{at}: answers {cell[:60]!r}; expected an answer, or scores above 0 up to 1 in "
                f'JSON, such as {{"yes": 1, "no": 0.3}}'
            )
    frame["answers"] = [json.dumps(found or {}, ensure_ascii=False) for found in scores]
    train = [
        answer
        for split, found in zip(frame["split"], scores, strict=True)
        if split == "train" and found
        for answer in found
    ]
    vocabulary = frequent_answers(train)
    if not vocabulary:
        problems.append(f"{path}: no answers in split train, which make the vocabulary; add some")
    index_of = {answer: index for index, answer in enumerate(vocabulary)}
    labels = [best_answer(found or {}, index_of) for found in scores]
    frame["label"] = labels
    frame["label_name"] = [vocabulary[label] if label >= 0 else "" for label in labels]
    return {"task": "answers", "classes": vocabulary}


def scores_of(cell):
    """{answer: score} of one cell of the column answers; None if it holds neither form."""
    if not cell.startswith("{"):
        return {cell.strip(): 1.0} if cell.strip() else None
    try:
        scores = json.loads(cell)
    except (ValueError, RecursionError):
        return None
    if not all(map(is_score, scores.values())) or not all(map(is_encodable, scores)):
        return None
    return {answer: float(score) for answer, score in scores.items()}


def split_of(unit, seed):
    """train, val or test by a hash of `unit`, in the proportions of FRACTIONS."""
    at = seed_from("split", seed, unit) / 2**63
    for split, fraction in FRACTIONS.items():
        at -= fraction
        if at < 0:
            return split
    return split
