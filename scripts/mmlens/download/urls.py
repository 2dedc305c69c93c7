"""Files by URL: streamed, resumed, retried, checked."""

import json
import re
import threading
import time
from pathlib import Path

import requests
from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema, RequestException

from ..files import write_json
from .common import (
    BACKOFF,
    REMEDY,
    TIMEOUT,
    DownloadError,
    NotFoundError,
    check_content,
    check_space,
    finish,
    finished,
    html_page,
    progress_bar,
    run_all,
)

CHUNK = 2**16
LONGEST_BACKOFF = 60.0
LONGEST_WAIT = 300.0  # however long a server asks to wait
local = threading.local()


class TransferError(Exception):
    """A failed attempt at a download, after which another may succeed.

    wait : float, seconds that the server asks to wait before it
    """

    def __init__(self, text, wait=0.0):
        super().__init__(text)
        self.wait = wait


def fetch_file(url, path, *, size=None, sha256=None, attempts=5, progress=True):
    """Download a file, or find that it is there already.

    What has come so far is kept in `<path>.part`, also when the process is killed, and the next
    call asks for the rest only. `.<name>.source.json` beside the file keeps its record; a file
    that is there, as recorded and as expected, is not downloaded again.

    Parameters
    ----------
    size, sha256 : expected number of bytes and hex digest; None where not known
    attempts : int
        Attempts in a row that bring nothing new (connection errors, status 429 or 5xx, a body
        that ends early), with growing pauses, after which the download fails.
    progress : whether to show a bar

    Returns
    -------
    dict: path, url, size, sha256, etag ("" where the server sent none)

    Raises
    ------
    DownloadError
    """
    with progress_bar(unit="B", unit_scale=True, desc=Path(path).name, disable=not progress) as bar:
        return fetch(url, path, size=size, sha256=sha256, attempts=attempts, bar=bar)


def fetch_many(sources, *, workers=8):
    """Download many files at a time, with one progress bar.

    sources : iterable of dicts with the keyword arguments of `fetch_file`: url, path, ...

    Returns
    -------
    list of records as `fetch_file` returns them, in the order of the sources

    Raises
    ------
    DownloadError with the problems of all that failed; the others are downloaded and stay.
    """
    sources = [{**source, "progress": False} for source in sources]
    calls = [lambda source=source: fetch_file(**source) for source in sources]
    with progress_bar(total=len(calls), unit="file", disable=not calls) as bar:
        return run_all(calls, workers, bar)


def fetch(url, path, *, size, sha256, attempts, bar):
    """`fetch_file` with the progress bar to move."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    known = finished(path, url, size, sha256)
    if known:
        return known
    part = part_of(path)
    longest, failed = length(part), 0
    while True:
        resumed = length(part) > 0
        try:
            etag = transfer(url, path, size, bar)
        except TransferError as error:
            # An attempt that brought something new was not in vain.
            failed = 1 if length(part) > longest else failed + 1
            longest = max(longest, length(part))
            if failed >= attempts:
                problem = f"{url}: {error}, {failed} times in a row; {REMEDY}"
                raise DownloadError([problem]) from error
            pause = min(BACKOFF * 2 ** (failed - 1), LONGEST_BACKOFF)
            pause = max(pause, min(error.wait, LONGEST_WAIT))
            print(f"{url}: {error}; again in {pause:.0f} s")
            time.sleep(pause)
            continue
        try:
            check_content(part, url, size, sha256)
            break
        except DownloadError as error:
            discard(part)
            if not resumed:
                raise
            # The older half may be at fault, not the source.
            print(f"{error}; downloading all of it again")
    done = finish(part, path, url, etag)
    discard(part)
    return done


def transfer(url, path, size, bar):
    """One attempt to complete the part of `path`; returns the ETag of the file.

    Raises
    ------
    TransferError if another attempt may help, DownloadError if none will.
    """
    part = part_of(path)
    start, known = length(part), read_validator(part)
    headers = {"Accept-Encoding": "identity", "User-Agent": "mmlens"}
    if start and known.get("url") == url and known["validator"]:
        headers |= {"Range": f"bytes={start}-", "If-Range": known["validator"]}
    else:
        start = 0
    try:
        with session().get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            status = response.status_code
            if start and status == 416 and range_of(response) == (None, start):
                return known["etag"]  # killed after the last byte, before it got its name
            if status == 416 or (status == 206 and range_of(response)[0] != start):
                discard(part)
                raise TransferError("the server did not send the rest of the file that it has")
            check_status(response, url)
            receive(response, url, path, start if status == 206 else 0, size, bar)
            return etag_of(response) or known.get("etag", "")
    except (InvalidURL, InvalidSchema, MissingSchema) as error:
        raise DownloadError([f"{url}: no valid address ({error}); correct it"]) from None
    except RequestException as error:
        raise TransferError(f"the connection failed ({type(error).__name__}: {error})") from error


def receive(response, url, path, start, size, bar):
    """Append the body of a response to the first `start` bytes of the part of `path`."""
    part = part_of(path)
    chunks = response.iter_content(CHUNK)
    chunk = next(chunks, b"")
    page = html_page(chunk, response.headers.get("Content-Type", "")) if start == 0 else None
    if page and path.suffix.lower() not in (".html", ".htm"):
        raise DownloadError([f"{url}: {page}, expected a file; {REMEDY}"])
    announced = response.headers.get("Content-Length", "")
    total = start + int(announced) if announced.isdigit() and is_plain(response) else None
    if size is not None and total not in (None, size):
        raise DownloadError([f"{url}: {total} bytes are offered, expected {size}; {REMEDY}"])
    check_space(path.parent, (total or size or start) - start)
    bar.total, bar.n = total or size, start
    if start == 0:
        discard(part)  # first, so that no older bytes are taken for this version's
        write_validator(part, url, response)
    with open(part, "ab" if start else "wb") as file:
        while chunk:
            file.write(chunk)
            bar.update(len(chunk))
            chunk = next(chunks, b"")
    if total is not None and length(part) < total:
        raise TransferError(f"the connection ended after {length(part)} of {total} bytes")


def check_status(response, url):
    """TransferError for a status that may pass, DownloadError for one that will not."""
    status = response.status_code
    if status in (408, 429) or status >= 500:
        wait = response.headers.get("Retry-After", "")
        text = f"status {status} ({response.reason}) came, expected 200"
        raise TransferError(text, float(wait) if wait.isdigit() else 0.0)
    if status not in (200, 206):
        problem = f"{url}: status {status} ({response.reason}) came, expected 200; {REMEDY}"
        raise (NotFoundError if status in (404, 410) else DownloadError)([problem])


def is_plain(response):
    """Whether the bytes sent are those of the file, not compressed for the way."""
    return response.headers.get("Content-Encoding", "identity") == "identity"


def session():
    """This thread's connections, which are kept open from file to file."""
    if not hasattr(local, "session"):
        local.session = requests.Session()
    return local.session


def range_of(response):
    """(first byte, size of the whole file) of a Content-Range header, None where unknown."""
    given = response.headers.get("Content-Range", "")
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)", given)
    first, total = found.groups() if found else (None, None)
    return first and int(first), total and int(total)


def etag_of(response):
    """The ETag of a response without its quotes, "" where there is none."""
    return response.headers.get("ETag", "").removeprefix("W/").strip('"')


def part_of(path):
    """Where a file is collected until it is complete."""
    return path.with_name(f"{path.name}.part")


def length(part):
    return part.stat().st_size if part.exists() else 0


def validator_path(part):
    return part.with_name(f".{part.name}.json")


def read_validator(part):
    """What `write_validator` noted; {} where there is nothing."""
    try:
        return json.loads(validator_path(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def write_validator(part, url, response):
    """Note which version of the file `part` belongs to, before its first byte is written.

    Only a strong ETag or a date can be asked for with If-Range (RFC 9110, section 13.1.5);
    without either the next attempt starts at the first byte.
    """
    etag = response.headers.get("ETag", "")
    strong = etag if not etag.startswith("W/") else ""
    validator = strong or response.headers.get("Last-Modified", "") if is_plain(response) else ""
    facts = {"url": url, "validator": validator, "etag": etag_of(response)}
    write_json(validator_path(part), facts)


def discard(part):
    """Remove an incomplete file and what was noted about it."""
    part.unlink(missing_ok=True)
    validator_path(part).unlink(missing_ok=True)
