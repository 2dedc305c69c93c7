"""A server of one file for the tests of downloads, and what a download leaves and says."""

import hashlib

import numpy as np
import pytest
from loopback import serving

from mmlens.download import DownloadError, hosts, urls

CONTENT = np.random.default_rng(0).bytes(400_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch):
    """A server of CONTENT as /a.bin; faults are tried again at once."""
    monkeypatch.setattr(urls, "BACKOFF", 0.001)
    monkeypatch.setattr(hosts, "BACKOFF", 0.001)
    with serving() as running:
        running.files["/a.bin"] = CONTENT
        yield running


def names(folder):
    """Names of all files below a folder, in order."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def problems_of(call, *arguments, error=DownloadError, **options):
    with pytest.raises(error) as caught:
        call(*arguments, **options)
    return caught.value.problems
