"""What all ways of downloading share: the error, the record of a file, its checks."""

import json
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from ..files import sha256_file, write_json
from ..table import DataError

# Left free on the disk beside what a download needs.
SPARE_BYTES = 100 * 2**20
TIMEOUT = (20, 60)  # seconds to connect, and between bytes
BACKOFF = 1.0  # seconds before the second attempt; doubles with every further one
# So many failures in a row say that the others will fail too.
HOPELESS = 20
REMEDY = (
    "run again to go on, or download it in a browser and set dataset.root to its folder, or path "
    "in its entry of section weights"
)


def progress_bar(**options):
    """A tqdm bar for logs: a line every few seconds, not thousands."""
    return tqdm(mininterval=5, ascii=True, file=sys.stdout, **options)


class DownloadError(DataError):
    """Every file that could not be had: where from, what came, what was expected, the remedy."""

    def __init__(self, problems):
        super().__init__("download failed", problems)


class NotFoundError(DownloadError):
    """A file that its source does not have; it may have others."""


def source_path(path):
    """The small JSON file beside a download that says where it is from and what it holds."""
    return path.with_name(f".{path.name}.source.json")


def read_source(path):
    """What `write_source` noted about `path`; {} where there is nothing."""
    try:
        return json.loads(source_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def write_source(path, of, url, sha256, etag):
    """Note where `path` is from; `of` is the file itself, or the one to be renamed onto it."""
    facts = of.stat()
    source = {"url": url, "size": facts.st_size, "sha256": sha256, "etag": etag}
    write_json(source_path(path), {**source, "mtime_ns": facts.st_mtime_ns})


def is_unchanged(path, source):
    """Whether `path` still is the file that its record is about."""
    facts = path.stat()
    return (source.get("size"), source.get("mtime_ns")) == (facts.st_size, facts.st_mtime_ns)


def record(path):
    """{path, url, size, sha256, etag} of a finished download."""
    source = read_source(path)
    return {"path": str(path), **{key: source[key] for key in ("url", "size", "sha256", "etag")}}


def known_record(path):
    """The record of a file that was downloaded and not changed since, else None."""
    return record(path) if path.is_file() and is_unchanged(path, read_source(path)) else None


def is_here(path):
    """Whether a file is there, and, if it was downloaded by itself, has not changed since."""
    return path.is_file() and (not read_source(path) or known_record(path) is not None)


def finish(part, path, url, etag):
    """Note the facts of the complete file `part`, then give it its name; returns its record."""
    # In this order, so that a file that was downloaded always has its record.
    write_source(path, part, url, sha256_file(part), etag)
    part.replace(path)
    return record(path)


def finished(path, url, size=None, sha256=None):
    """The record of a file that is there and is what `url` should give, else None.

    A file without a record was put there by hand: it is taken if it is as expected.
    """
    if not path.is_file():
        return None
    source = read_source(path)
    if not is_unchanged(path, source):
        digest = sha256_file(path)
        if not source or digest in (source["sha256"], sha256):
            write_source(path, path, url, digest, source.get("etag", ""))
            source = read_source(path)
    wanted = sha256 == source["sha256"] if sha256 else source["url"] == url
    if is_unchanged(path, source) and wanted and size in (None, source["size"]):
        return record(path)
    print(f"{path}: not, or no longer, what {url} should give; downloading it again")
    return None


def check_content(part, url, size, sha256):
    """DownloadError if a complete file is not what was expected; None stands for not known."""
    found = part.stat().st_size
    if size not in (None, found):
        raise DownloadError([f"{url}: {found} bytes came, expected {size}; {REMEDY}"])
    digest = sha256_file(part)
    if sha256 not in (None, digest):
        raise DownloadError(
            [
                f"{url}: a file with SHA-256 {digest} came, expected {sha256}; it was changed at "
                f"its source or on its way: compare resources/data_versions.csv, then {REMEDY}"
            ]
        )


def html_page(first, content_type=""):
    """What an HTML page that came in place of a file says; None if it is no HTML page.

    first : the first bytes of the file
    """
    start = first.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not (
        start.startswith((b"<!doctype html", b"<html"))
        or content_type.strip().lower().startswith("text/html")
    ):
        return None
    text = first.decode("utf-8", "replace")
    if "quota" in text.lower() or "too many users" in text.lower():
        return "an HTML page came that says the quota of downloads is exceeded"
    title = re.search(r"<title>\s*(.*?)\s*</title>", text, re.IGNORECASE | re.DOTALL)
    return f"an HTML page came (title {title[1][:80] if title else ''!r})"


def check_space(folder, needed):
    """DownloadError if fewer than `needed` bytes and a spare are free at `folder`."""
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE_BYTES:
        raise DownloadError(
            [
                f"{folder}: {free / 2**30:.2f} GiB free, expected {needed / 2**30:.2f} GiB and "
                f"{SPARE_BYTES / 2**20:.0f} MiB to spare; free some space"
            ]
        )


def run_all(calls, workers, bar):
    """Results of many downloads, in order, several at a time.

    calls : functions without arguments; bar : a progress bar, which counts those that ended

    Raises
    ------
    DownloadError with the problems of all that failed; what was downloaded stays. After
    HOPELESS failures in a row that are no NotFoundError, the rest is given up.
    """
    results, problems, in_a_row = [], [], 0
    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(call) for call in calls]
        try:
            for position, future in enumerate(waiting, start=1):
                try:
                    results.append(future.result())
                    in_a_row = 0
                except DownloadError as error:
                    problems += error.problems
                    in_a_row = 0 if isinstance(error, NotFoundError) else in_a_row + 1
                bar.update()
                if in_a_row == HOPELESS < len(waiting):
                    rest = len(waiting) - position
                    problems.append(f"after {in_a_row} failures in a row {rest} more were given up")
                    break
        finally:
            pool.shutdown(cancel_futures=True)
    if problems:
        raise DownloadError(problems)
    return results
