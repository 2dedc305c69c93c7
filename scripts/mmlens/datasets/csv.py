"""A user's own table: columns image, text, label; optional sample_id, split and group_*."""

from pathlib import Path

from ..files import seed_from
from ..table import DataError, read_table
from . import register_dataset
from .reading import Reading

FRACTIONS = {"train": 0.7, "val": 0.1, "test": 0.2}


@register_dataset("csv")
def read(settings):
    """Read one CSV table into a `Reading`.

    Without a column split, samples are split 70/10/20 by a hash of their image (of their text
    where there is no image), so that one image never crosses splits. Without a column sample_id,
    ids are row1, row2, ...

    Parameters
    ----------
    settings : dict
        root: folder that the table's image paths are relative to; table: path of the CSV,
        relative to root; seed: of the split; optional groups and instances.
    """
    root = Path(settings["root"])
    path = root / settings["table"]
    if not path.is_file():
        return Reading.unreadable([f"{path}: no such file; set dataset.table"])
    try:
        frame = read_table(path)
    except DataError as error:
        return Reading.unreadable(error.problems)
    missing = [column for column in ("image", "text", "label") if column not in frame]
    if missing:
        found = ", ".join(frame.columns)
        return Reading.unreadable([f"{path}: no column {', '.join(missing)}; found {found}"])
    frame["at"] = [f"{path} line {line}" for line in frame.index]
    frame = frame.reset_index(drop=True)
    if "sample_id" not in frame:
        frame["sample_id"] = [f"row{number}" for number in range(1, len(frame) + 1)]
    if "split" not in frame:
        units = frame["image"].where(frame["image"] != "", frame["text"])
        frame["split"] = [split_of(unit, settings.get("seed", 0)) for unit in units]
    frame["image"] = [str(root / name) if name else "" for name in frame["image"]]
    return Reading(
        frame,
        [],
        settings.get("groups"),
        {s: root / f for s, f in (settings.get("instances") or {}).items()},
    )


def split_of(unit, seed):
    """train, val or test by a hash of `unit`, in the proportions of FRACTIONS."""
    at = seed_from("split", seed, unit) / 2**63
    for split, fraction in FRACTIONS.items():
        at -= fraction
        if at < 0:
            return split
    return split
