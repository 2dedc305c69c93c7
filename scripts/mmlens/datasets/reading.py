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
        and any group_*, quad_id, cluster_id columns
    problems : list of str, what could not be read at all
    groups : {"table": path, "on": "image" | "sample_id"} or None, a table to join
    instances : {split: path} of COCO instances files with the masks of the images
    """

    samples: pd.DataFrame
    problems: list
    groups: dict | None = None
    instances: dict = field(default_factory=dict)

    @classmethod
    def unreadable(cls, problems):
        """A reading without rows, for a file that cannot be read at all."""
        return cls(pd.DataFrame(columns=list(COLUMNS)), problems)
