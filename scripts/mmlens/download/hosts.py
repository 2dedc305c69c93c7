"""Files from hosts with an interface of their own: a Hugging Face hub, Google Drive."""

import hashlib
import os
import re
import time
from functools import partial
from pathlib import Path

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
)


def fetch_from_hub(repo, filename, folder, *, endpoint, revision="main", repo_type="dataset"):
    """Download a file of a repository on a Hugging Face hub to `folder/filename`.

    A file that came from the same address before, and was not changed since, is not asked for
    again. The content is checked against the hub's ETag, which is the SHA-256 of a large file
    and the Git hash of a small one.

    Parameters
    ----------
    endpoint : address of the hub, for example https://huggingface.co

    Returns
    -------
    dict: path, url, size, sha256, etag

    Raises
    ------
    DownloadError
    """
    # Slow to import, and only needed for some data sets.
    from huggingface_hub import hf_hub_download, hf_hub_url
    from huggingface_hub._local_folder import read_download_metadata  # no public way to the ETag
    from huggingface_hub.utils import disable_progress_bars

    path = Path(folder) / filename
    where = {"repo_type": repo_type, "revision": revision, "endpoint": endpoint}
    url = hf_hub_url(repo, filename, **where)
    known = finished(path, url)
    if known:
        return known
    # Not at once under its final name, which only checked files have; what has come so far
    # stays here for the next attempt.
    staging = Path(folder) / ".hub"
    check_space(existing(staging), 0)
    disable_progress_bars()
    part = Path(retried(lambda: hf_hub_download(repo, filename, local_dir=staging, **where), url))
    etag = read_download_metadata(staging, filename).etag
    found = hash_like(etag, part)
    if found not in ("", etag):
        part.unlink()
        raise DownloadError([f"{url}: content of hash {found} came, expected {etag}; run again"])
    path.parent.mkdir(parents=True, exist_ok=True)
    return finish(part, path, url, etag)


def describe_on_hub(repo, revision):
    """What a Hugging Face hub says of a model repository at a branch, tag or commit.

    The hub is that of the environment variable HF_ENDPOINT, by default https://huggingface.co.

    Returns
    -------
    dict: endpoint, revision (the commit), files (names), licence ("" if its card names none)

    Raises
    ------
    DownloadError
    """
    from huggingface_hub import HfApi

    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    ask = partial(HfApi(endpoint=endpoint).model_info, repo, revision=revision)
    info = retried(ask, f"{endpoint}/{repo} at {revision}")
    return {
        "endpoint": endpoint,
        "revision": info.sha,
        "files": [file.rfilename for file in info.siblings],
        "licence": (info.card_data or {}).get("license") or "",
    }


def retried(download, url, attempts=3):
    """The result of `download`, which is tried again where that may help; DownloadError."""
    attempt = 0
    while True:
        attempt += 1
        try:
            return download()
        # The hub's library lets the errors of whatever HTTP client it uses through.
        except Exception as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            lasting = status is not None and 400 <= status < 500 and status not in (408, 429)
            text = " ".join(str(error).split()) or type(error).__name__
            if lasting or attempt == attempts:
                found = f"status {status}" if status else "no answer"
                kind = NotFoundError if status == 404 else DownloadError
                raise kind([f"{url}: {found} ({text[:300]}); {REMEDY}"]) from error
            print(f"{url}: {text}; again")
            time.sleep(BACKOFF * 2 ** (attempt - 1))


def hash_like(etag, path):
    """The hash of a file of the kind that an ETag of the hub is, "" if it is another kind."""
    if re.fullmatch("[0-9a-f]{64}", etag):
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if re.fullmatch("[0-9a-f]{40}", etag):
        content = path.read_bytes()
        return hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()
    return ""


def existing(folder):
    """The nearest folder above that exists."""
    return folder if folder.exists() else existing(folder.parent)


def fetch_from_drive(url, path, *, size=None, sha256=None):
    """Download a shared file from Google Drive.

    Resumes what an earlier call left; arguments and result are those of `fetch_file`.

    Raises
    ------
    DownloadError also if Google asks for a permission or says that its quota is exceeded.
    """
    import gdown

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    known = finished(path, url, size, sha256)
    if known:
        return known
    by_hand = f"download it in a browser as {path}, or set dataset.root to a folder that has it"
    staging = path.with_name(f"{path.name}.drive")
    with progress_bar(unit="B", unit_scale=True, desc=path.name) as bar:

        def show(so_far, total):
            if bar.total is None and total:
                check_space(path.parent, total - so_far)
                bar.total = total
            bar.update(so_far - bar.n)

        try:
            gdown.download(
                url,
                str(staging),
                quiet=True,
                use_cookies=False,
                resume=True,
                timeout=TIMEOUT,
                retries=4,
                progress=show,
            )
        except (gdown.exceptions.DownloadError, OSError) as error:
            text = " ".join(str(error).split())
            raise DownloadError(
                [f"{url}: gdown could not download it ({text}); {by_hand}"]
            ) from error
    with open(staging, "rb") as file:
        page = html_page(file.read(2**16))
    try:
        if page:
            raise DownloadError([f"{url}: {page}, expected a file; {by_hand}"])
        check_content(staging, url, size, sha256)
    except DownloadError:
        staging.unlink()
        raise
    return finish(staging, path, url, "")
