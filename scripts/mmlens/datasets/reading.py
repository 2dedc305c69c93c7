"""What a reader returns, before anything is checked."""

from dataclasses import dataclass, field

import pandas as pd

COLUMNS = ("sample_id", "split", "image", "text", "label", "at")


@dataclass
class Reading:
    """Rows of a data set as read, with where each came from.

    Attributes
    ----------
    samples : DataFrame with sample_id, split, image, text, label, at (file and line of the row)
        and any group_*, quad_id, cluster_id columns; with those of its task (TASK_COLUMNS of
        samples.py), and image_size (width, height) where the annotations state it
    problems : list of str, what could not be read at all
    groups : {"table": path, "on": "image" | "sample_id"} or None, a table to join
    instances : {split: path} of COCO instances files with the masks of the images
    task : binary (labels 0 and 1), classes (the label is an index into `classes`), or answers
        (likewise, -1 for a sample none of whose answers is in the vocabulary `classes`)
    classes : names of the classes, or the vocabulary of answers
    class_facts : {column: list} of more that is known about each class
    broken : error, or exclude for data sets in which files are known to be broken: samples whose
        image is missing, cannot be decoded or has another size than annotated are then left out
        and counted
    unlabelled : what is missing, of a table without labels (all of which are then -1), else ""
    counts : {split: {column: value}} of what the reader itself left out, for the table of quality
    """

    samples: pd.DataFrame
    problems: list
    groups: dict | None = None
    instances: dict = field(default_factory=dict)
    task: str = "binary"
    classes: list = field(default_factory=lambda: ["0", "1"])
    class_facts: dict = field(default_factory=dict)
    broken: str = "error"
    unlabelled: str = ""
    counts: dict = field(default_factory=dict)

    @classmethod
    def unreadable(cls, problems):
        """A reading without rows, for a file that cannot be read at all."""
        return cls(pd.DataFrame(columns=list(COLUMNS)), problems)
