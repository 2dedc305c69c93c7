"""Where the raw files of the data sets come from: resources/data_versions.csv."""

from pathlib import Path, PurePosixPath
from urllib.parse import quote

from ..download import extract, fetch_file, fetch_many
from ..table import read_table

VERSIONS = Path(__file__).parents[3] / "resources/data_versions.csv"


def read_versions(dataset):
    """Sources of a data set.

    Returns
    -------
    {name: {url, version, size, sha256, licence, note}}; size is an int, and size and sha256 are
    None where they are not known.
    """
    table = read_table(VERSIONS)
    rows = table[table["dataset"] == dataset].drop(columns="dataset").to_dict("records")
    return {
        row.pop("name"): {
            **row,
            "size": int(row["size"]) if row["size"] else None,
            "sha256": row["sha256"] or None,
        }
        for row in rows
    }


def known_file(dataset, url):
    """{"size", "sha256", "licence"} of the file of this address; None, or "", if not known."""
    rows = read_versions(dataset).values()
    row = next((row for row in rows if row["url"] == url), {})
    return {key: row.get(key) for key in ("size", "sha256", "licence")}


def expected(dataset, url):
    """{"size": ..., "sha256": ...} that a file of this address should have; None if not known."""
    return {key: known_file(dataset, url)[key] for key in ("size", "sha256")}


def fetch_archive(dataset, url, root, names):
    """Download an archive to root and unpack there the members of these names; its record."""
    path = root / PurePosixPath(url).name
    record = fetch_file(url, path, **expected(dataset, url))
    extract(path, root, members=list(names))
    return record


def fetch_images(url, root, folder, names):
    """Download images <url>/<folder>/<name> to the same folder below root; their records."""
    sources = [
        {"url": f"{url}/{folder}/{quote(name)}", "path": root / folder / name} for name in names
    ]
    return fetch_many(sources)
