"""Downloads against a real server with faults: what is asked for, kept, checked and refused."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT
from downloads import CONTENT, DIGEST, names, problems_of, server
from loopback import QUOTA

from mmlens.download import (
    NotFoundError,
    fetch_file,
    fetch_many,
    is_here,
    known_record,
    urls,
)
from mmlens.download.common import HOPELESS, check_space

__all__ = ["server"]

CUT = 200_000
# What is kept of a connection that ends early: whole chunks.
KEPT = CUT // urls.CHUNK * urls.CHUNK
REST = f"bytes={KEPT}-"


def test_a_file_is_downloaded_once_and_recorded(server, tmp_path):
    path, url = tmp_path / "below/a.bin", server.url("/a.bin")
    record = fetch_file(url, path, size=len(CONTENT), sha256=DIGEST)
    assert path.read_bytes() == CONTENT
    assert record == {
        "path": str(path),
        "url": url,
        "size": len(CONTENT),
        "sha256": DIGEST,
        "etag": DIGEST[:16],
    }
    assert names(tmp_path) == [".a.bin.source.json", "a.bin"]
    assert fetch_file(url, path) == record
    os.utime(path, (1, 1))  # as by a copy without times; the content is the same
    assert fetch_file(url, path) == record == known_record(path)
    assert server.gets("/a.bin") == [None]


def test_a_changed_file_or_another_address_is_downloaded_again(server, tmp_path):
    path = tmp_path / "a.bin"
    fetch_file(server.url("/a.bin"), path)
    path.write_bytes(b"changed")
    assert known_record(path) is None
    assert not is_here(path)
    fetch_file(server.url("/a.bin"), path)
    assert path.read_bytes() == CONTENT
    server.files["/b.bin"] = b"other"
    fetch_file(server.url("/b.bin"), path)
    assert path.read_bytes() == b"other"
    assert (server.gets("/a.bin"), server.gets("/b.bin")) == ([None, None], [None])


def test_a_file_put_there_by_hand_is_taken_if_it_is_the_expected_one(server, tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(CONTENT)
    assert is_here(path)
    record = fetch_file(server.url("/a.bin"), path, sha256=DIGEST)
    assert (record["sha256"], record["etag"], server.asked) == (DIGEST, "", [])
    other = tmp_path / "b.bin"
    other.write_bytes(b"something else")
    fetch_file(server.url("/a.bin"), other, sha256=DIGEST)
    assert other.read_bytes() == CONTENT


def test_after_a_cut_connection_only_the_rest_is_asked_for(server, tmp_path):
    server.faults["/a.bin"] = [{"cut": CUT}]
    fetch_file(server.url("/a.bin"), tmp_path / "a.bin", sha256=DIGEST)
    assert server.gets("/a.bin") == [None, REST]
    assert names(tmp_path) == [".a.bin.source.json", "a.bin"]


def test_what_a_killed_process_had_is_kept(server, tmp_path):
    server.faults["/a.bin"] = [{"hang": CUT}]
    path, url = tmp_path / "a.bin", server.url("/a.bin")
    code = f"from mmlens.download import fetch_file; fetch_file({url!r}, {str(path)!r})"
    running = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
    )
    part = tmp_path / "a.bin.part"
    while not part.exists() or part.stat().st_size < KEPT:
        assert running.poll() is None, "the download ended before it could be killed"
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not path.exists()
    fetch_file(url, path, sha256=DIGEST)
    assert server.gets("/a.bin") == [None, REST]


def interrupted(server, path, **fault):
    """Leave the part of /a.bin that a cut connection brings."""
    server.faults["/a.bin"] = [{"cut": CUT, **fault}]
    problems_of(fetch_file, server.url("/a.bin"), path, attempts=1)
    assert path.with_name("a.bin.part").stat().st_size == KEPT
    server.asked.clear()


def test_a_file_that_changed_meanwhile_is_downloaded_from_its_first_byte(server, tmp_path):
    path = tmp_path / "a.bin"
    interrupted(server, path)
    server.files["/a.bin"] = newer = CONTENT[::-1]
    fetch_file(server.url("/a.bin"), path)
    assert path.read_bytes() == newer
    assert server.gets("/a.bin") == [REST]  # and the server answered with the whole file


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    path = tmp_path / "a.bin"
    interrupted(server, path)
    server.faults["/a.bin"] = [{"ranges": False}]
    fetch_file(server.url("/a.bin"), path, sha256=DIGEST)
    assert server.gets("/a.bin") == [REST]


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_nothing_is_appended_to_a_version_that_cannot_be_told(server, tmp_path, etag):
    server.etags["/a.bin"] = etag
    path = tmp_path / "a.bin"
    interrupted(server, path)
    fetch_file(server.url("/a.bin"), path, sha256=DIGEST)
    assert server.gets("/a.bin") == [None]


def test_a_part_of_another_address_is_not_continued(server, tmp_path):
    path = tmp_path / "a.bin"
    interrupted(server, path)
    server.files["/b.bin"] = CONTENT
    fetch_file(server.url("/b.bin"), path, sha256=DIGEST)
    assert server.gets("/b.bin") == [None]


def test_a_complete_part_gets_its_name(server, tmp_path):
    path = tmp_path / "a.bin"
    interrupted(server, path)
    path.with_name("a.bin.part").write_bytes(CONTENT)
    assert fetch_file(server.url("/a.bin"), path, sha256=DIGEST)["etag"] == DIGEST[:16]
    assert server.gets("/a.bin") == [f"bytes={len(CONTENT)}-"]


def test_passing_faults_are_tried_again(server, tmp_path):
    busy = {"status": 429, "headers": {"Retry-After": "0"}, "body": b"slower"}
    server.faults["/a.bin"] = [{"status": 503, "body": b""}, busy, {"status": 500, "body": b""}]
    fetch_file(server.url("/a.bin"), tmp_path / "a.bin", sha256=DIGEST)
    assert len(server.gets("/a.bin")) == 4


def test_attempts_in_vain_end_in_an_error(server, tmp_path):
    server.faults["/a.bin"] = [{"status": 503, "body": b""}] * 9
    url = server.url("/a.bin")
    (problem,) = problems_of(fetch_file, url, tmp_path / "a.bin", attempts=3)
    assert f"{url}: status 503 (Service Unavailable) came, expected 200, 3 times" in problem
    assert "set dataset.root" in problem
    assert len(server.asked) == 3
    nobody = "http://127.0.0.1:1/a.bin"
    (problem,) = problems_of(fetch_file, nobody, tmp_path / "a.bin", attempts=2)
    assert f"{nobody}: the connection failed" in problem
    assert names(tmp_path) == []


def test_attempts_that_bring_something_are_not_counted(server, tmp_path):
    server.faults["/a.bin"] = [{"cut": urls.CHUNK}] * 4
    fetch_file(server.url("/a.bin"), tmp_path / "a.bin", sha256=DIGEST, attempts=2)
    assert len(server.asked) == 5


def test_a_body_that_always_ends_early_is_an_error_and_the_part_stays(server, tmp_path):
    server.faults["/a.bin"] = [{"cut": 10}] * 9
    (problem,) = problems_of(
        fetch_file, server.url("/a.bin"), tmp_path / "a.bin", attempts=2, size=len(CONTENT)
    )
    assert "IncompleteRead(10 bytes read" in problem
    assert "run again to go on" in problem
    assert names(tmp_path) == []  # 10 bytes are less than a chunk
    interrupted(server, tmp_path / "a.bin")
    assert names(tmp_path) == [".a.bin.part.json", "a.bin.part"]


def test_what_is_not_there_is_an_error_at_once(server, tmp_path):
    (problem,) = problems_of(
        fetch_file, server.url("/gone"), tmp_path / "gone", error=NotFoundError
    )
    assert "/gone: status 404 (Not Found) came, expected 200" in problem
    assert len(server.asked) == 1
    (problem,) = problems_of(fetch_file, "no address", tmp_path / "gone")
    assert problem.startswith("no address: no valid address")


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    url = server.url("/a.bin")
    (problem,) = problems_of(fetch_file, url, tmp_path / "a.bin", sha256="0" * 64)
    assert f"{url}: a file with SHA-256 {DIGEST} came, expected 000" in problem
    assert "resources/data_versions.csv" in problem
    assert names(tmp_path) == []
    assert len(server.asked) == 1


def test_a_damaged_part_is_downloaded_again(server, tmp_path):
    path = tmp_path / "a.bin"
    interrupted(server, path)
    path.with_name("a.bin.part").write_bytes(bytes(KEPT))
    fetch_file(server.url("/a.bin"), path, sha256=DIGEST)
    assert server.gets("/a.bin") == [REST, None]


def test_a_wrong_size_is_noticed_before_the_file_comes(server, tmp_path):
    (problem,) = problems_of(fetch_file, server.url("/a.bin"), tmp_path / "a.bin", size=7)
    assert f"{len(CONTENT)} bytes are offered, expected 7" in problem
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("page", "headers", "found"),
    [
        (QUOTA, {}, "an HTML page came that says the quota of downloads is exceeded"),
        (b"\n <HTML><TITLE>Sign in</TITLE>", {}, "an HTML page came (title 'Sign in'), expected"),
        (b"<html>", {}, "an HTML page came (title ''), expected a file"),
        (b"moved", {"Content-Type": "text/html; charset=utf-8"}, "an HTML page came (title '')"),
    ],
)
def test_a_page_in_place_of_a_file_is_recognised(server, tmp_path, page, headers, found):
    server.faults["/a.zip"] = [{"body": page, "headers": headers}]
    url = server.url("/a.zip")
    (problem,) = problems_of(fetch_file, url, tmp_path / "a.zip", size=len(CONTENT))
    assert problem.startswith(f"{url}: {found}")
    assert names(tmp_path) == []
    assert len(server.asked) == 1


def test_a_page_may_come_where_a_page_is_expected(server, tmp_path):
    server.files["/page"] = QUOTA
    fetch_file(server.url("/page"), tmp_path / "page.html")
    assert (tmp_path / "page.html").read_bytes() == QUOTA


def test_a_full_disk_is_noticed_before_the_download(tmp_path):
    (problem,) = problems_of(check_space, tmp_path, 2**60)
    assert problem.startswith(f"{tmp_path}: ")
    assert "GiB free, expected 1073741824.00 GiB" in problem


def test_many_files_at_a_time_with_all_failures_at_once(server, tmp_path):
    server.files |= {f"/{k}": bytes([k]) * 1000 for k in range(40) if k not in (3, 30)}
    server.faults["/7"] = [{"cut": 10}, {"status": 503, "body": b""}]
    sources = [{"url": server.url(f"/{k}"), "path": tmp_path / str(k)} for k in range(40)]
    sources[5]["sha256"] = "0" * 64
    problems = problems_of(fetch_many, sources)
    assert [problem.split(": ")[0] for problem in problems] == [
        server.url(f"/{k}") for k in (3, 5, 30)
    ]
    assert len([path for path in tmp_path.iterdir() if not path.name.startswith(".")]) == 37
    server.asked.clear()
    good = [source for k, source in enumerate(sources) if k not in (3, 5, 30)]
    records = fetch_many(good, workers=3)
    assert [record["path"] for record in records] == [str(source["path"]) for source in good]
    assert server.asked == []
    assert fetch_many([]) == []


def test_a_host_that_refuses_all_is_given_up(server, tmp_path):
    sources = [
        {"url": server.url(f"/{k}"), "path": tmp_path / str(k), "attempts": 1} for k in range(500)
    ]
    server.faults = {f"/{k}": [{"status": 500, "body": b""}] for k in range(500)}
    problems = problems_of(fetch_many, sources)
    assert len(problems) == HOPELESS + 1
    assert problems[-1] == f"after {HOPELESS} failures in a row 480 more were given up"
    server.faults, server.asked = {}, []
    assert len(problems_of(fetch_many, sources)) == 500  # that a host has none of them is no fault


def test_records_are_plain_text(server, tmp_path):
    fetch_file(server.url("/a.bin"), tmp_path / "a.bin")
    source = json.loads((tmp_path / ".a.bin.source.json").read_text())
    assert sorted(source) == ["etag", "mtime_ns", "sha256", "size", "url"]
