"""The samples table, the interface between data and everything after it.

One row per sample. Columns: sample_id (a string, never an int), split, image (path of the image
file), text, label (0 or 1), cluster_id (what intervals resample: the quad where there is one,
else the image), image_sha256, width, height; optional quad_id and any group_*.

A data set of more than two classes has, as label, an index into its classes.csv, and label_name,
targets (JSON list of all classes present) and captions (JSON list); one of answers has -1 where
no answer is in its vocabulary, and label_name and answers (JSON {answer: soft score}).
"""

import csv

import pandas as pd

from .files import atomic

REQUIRED = (
    "sample_id",
    "split",
    "image",
    "text",
    "label",
    "cluster_id",
    "image_sha256",
    "width",
    "height",
)
# Columns that a data set of this task may have; the last one of each tells the task.
TASK_COLUMNS = {
    "binary": (),
    "classes": ("label_name", "captions", "targets"),
    "answers": ("label_name", "answers"),
}
INTEGERS = ("label", "width", "height", "n")
SHOWN_PROBLEMS = 100


class DataError(ValueError):
    """Everything that is wrong with an input, one line per problem."""

    def __init__(self, title, problems):
        self.problems = list(dict.fromkeys(problems))
        shown = [f"  {k}. {text}" for k, text in enumerate(self.problems[:SHOWN_PROBLEMS], 1)]
        if len(self.problems) > SHOWN_PROBLEMS:
            shown.append(f"  ... and {len(self.problems) - SHOWN_PROBLEMS} more")
        count = len(self.problems)
        noun = "problem" if count == 1 else "problems"
        super().__init__("\n".join([f"{title}: {count} {noun}", *shown]))


def read_table(path):
    """Read a CSV with every cell as text ("" where empty); ids keep their leading zeros.

    The index holds the line of the file that a row ends on; blank lines are skipped.

    Raises
    ------
    DataError if the file is no UTF-8 table with as many cells in each row as in its header.
    """
    try:
        # utf-8-sig: spreadsheets write a byte order mark.
        with open(path, encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle, strict=True)
            header = next(reader, [])
            rows = [(reader.line_num, row) for row in reader if row]
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError("table", [f"{path}: not a CSV table in UTF-8 ({error})"]) from None
    if not rows:
        raise DataError("table", [f"{path}: no rows; expected a header line and rows"])
    problems = [
        f"{path} line {line}: {len(row)} cells, the header has {len(header)}; quote commas"
        for line, row in rows
        if len(row) != len(header)
    ]
    problems += [
        f"{path}: column {name!r} occurs more than once; keep one"
        for name in header
        if header.count(name) > 1
    ]
    if problems:
        raise DataError("table", problems)
    lines, cells = zip(*rows, strict=True)
    return pd.DataFrame(cells, index=lines, columns=header, dtype=str)


def read_samples(path):
    """Read and check a samples table; DataError if a column is missing."""
    frame = read_table(path).reset_index(drop=True)
    missing = [column for column in REQUIRED if column not in frame]
    if missing:
        problem = f"{path}: no column {', '.join(missing)}; found {', '.join(frame.columns)}"
        raise DataError("samples table", [problem])
    return frame.astype({column: int for column in INTEGERS if column in frame})


def task_of(frame):
    """The task of a samples table, told by its columns: binary, classes or answers."""
    found = (task for task in ("answers", "classes") if TASK_COLUMNS[task][-1] in frame)
    return next(found, "binary")


def answer_names(samples, classes):
    """Names of the answers in order, for a samples table of that task; else None.

    classes : path of the run's classes.csv
    """
    return read_table(classes)["name"].tolist() if task_of(samples) == "answers" else None


def check_labels(samples):
    """DataError if two labels are to be told apart and the samples have none (-1)."""
    if task_of(samples) == "binary" and (samples["label"] < 0).any():
        problem = (
            "the samples have no labels, which evaluation and tests of explanations need; the "
            "target predict needs none: snakemake predict --configfile ..."
        )
        raise DataError("labels", [problem])


def group_columns(frame):
    """Names of the group_* columns, in table order."""
    return [column for column in frame.columns if column.startswith("group_")]


def write_csv(path, frame):
    """Write a table atomically: 6 significant digits, "\\n" line ends, no index."""
    with atomic(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")


def write_parquet(path, frame):
    """Write a Parquet file atomically."""
    with atomic(path) as temporary:
        frame.to_parquet(temporary, index=False)


def read_parts(paths, **keys):
    """Concatenate Parquet files, adding columns; `keys` maps a column to one value per path."""
    frames = []
    for position, path in enumerate(paths):
        frame = pd.read_parquet(path)
        for column, values in keys.items():
            frame[column] = values[position]
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def read_runs(paths, models, seeds):
    """Concatenate one Parquet file per model and seed, adding the columns model and seed.

    paths : in the order of all seeds of the first model, then those of the second, ...
    """
    runs = [(model, seed) for model in models for seed in seeds]
    return read_parts(paths, model=[m for m, _ in runs], seed=[s for _, s in runs])
