"""Where the raw files of the data sets come from: resources/data_versions.csv."""

from pathlib import Path

from ..table import read_table

VERSIONS = Path(__file__).parents[3] / "resources/data_versions.csv"


def read_versions(dataset, path=VERSIONS):
    """Sources of a data set.

    Returns
    -------
    {name: {url, version, size, sha256, licence, note}}; size is an int, and size and sha256 are
    None where they are not known.
    """
    table = read_table(path)
    rows = table[table["dataset"] == dataset].drop(columns="dataset").to_dict("records")
    return {
        row.pop("name"): {
            **row,
            "size": int(row["size"]) if row["size"] else None,
            "sha256": row["sha256"] or None,
        }
        for row in rows
    }
