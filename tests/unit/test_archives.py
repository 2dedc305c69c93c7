"""Archives: unpacked whole or not at all, and nothing outside of their folder."""

import os
import stat
import tarfile
import zipfile

import numpy as np
import pytest
from archives import write_tar, write_zip
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from loopback import QUOTA

from mmlens.download import DownloadError, extract

RANDOM = np.random.default_rng(0)
FILES = {"img/01.png": RANDOM.bytes(9000), "img/02.png": RANDOM.bytes(5000), "note.txt": b"hello"}
KINDS = ("zip", "tar", "tar.gz")


def write(folder, kind, files):
    path = folder / f"archive.{kind}"
    return write_zip(path, files) if kind == "zip" else write_tar(path, files)


def contents(folder):
    """{name: bytes} of all files below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def problems_of(*arguments, **options):
    with pytest.raises(DownloadError) as caught:
        extract(*arguments, **options)
    return caught.value.problems


@pytest.mark.parametrize("kind", KINDS)
def test_unpacked_once(tmp_path, kind):
    archive, folder = write(tmp_path, kind, {**FILES, "./deep/a/b": b""}), tmp_path / "out"
    paths = extract(archive, folder)
    assert [path.relative_to(folder).as_posix() for path in paths] == [*FILES, "deep/a/b"]
    assert contents(folder) == {**FILES, "deep/a/b": b""}
    for path in paths:
        os.utime(path, (1, 1))
    (folder / "note.txt").write_bytes(b"half")
    (folder / "img/02.png").unlink()
    assert extract(archive, folder) == paths
    assert contents(folder) == {**FILES, "deep/a/b": b""}
    assert (folder / "img/01.png").stat().st_mtime == 1
    assert (folder / "note.txt").stat().st_mtime > 1


@pytest.mark.parametrize("kind", KINDS)
def test_chosen_members(tmp_path, kind):
    archive = write(tmp_path, kind, FILES)
    assert extract(archive, tmp_path / "a", members=["note.txt"]) == [tmp_path / "a/note.txt"]
    extract(archive, tmp_path / "b", members=lambda name: name.endswith("1.png"))
    assert contents(tmp_path / "b") == {"img/01.png": FILES["img/01.png"]}
    problems = problems_of(archive, tmp_path / "c", members={"note.txt", "gone", "also"})
    assert [problem.split(";")[0] for problem in problems] == [
        f"{archive}: no member also",
        f"{archive}: no member gone",
    ]
    assert contents(tmp_path / "c") == {}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["../evil", "img/../../evil", "/tmp/evil", "..", "link/evil"])
def test_a_member_that_leads_out_of_the_folder_is_refused(tmp_path, kind, name):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    (problem,) = problems_of(write(tmp_path, kind, {**FILES, name: b"evil"}), folder)
    assert f"member {name!r} leads out of {folder}; not unpacked" in problem
    assert not (tmp_path / "evil").exists()
    assert [path.name for path in folder.iterdir()] == ["link"]


def test_links_and_devices_are_refused(tmp_path):
    special = []
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
        info = tarfile.TarInfo(f"special{kind.decode()}")
        info.type, info.linkname = kind, "/etc/passwd"
        special.append(info)
    problems = problems_of(write_tar(tmp_path / "a.tar", FILES, *special), tmp_path / "out")
    assert len(problems) == 4
    assert all("is a link or a device, expected files and folders" in text for text in problems)
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    (problem,) = problems_of(tmp_path / "a.zip", tmp_path / "out")
    assert "member 'link' is a link or a device" in problem
    assert contents(tmp_path / "out") == {}


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_or_a_total_that_is_too_large_is_refused(tmp_path, kind):
    bomb = write(tmp_path, kind, {"bomb": bytes(10_000_000), "small": b"x"})
    (problem,) = problems_of(bomb, tmp_path / "out", largest=9_999_999)
    assert f"{bomb}: its members have 10000001 bytes unpacked, expected at most 9999999" in problem
    assert contents(tmp_path / "out") == {}
    extract(bomb, tmp_path / "out", largest=10, members=["small"])
    many = write(tmp_path, kind, {str(k): bytes(1000) for k in range(20)})
    (problem,) = problems_of(many, tmp_path / "many", largest=19_999)
    assert "20000 bytes" in problem


def test_a_member_that_is_longer_than_it_says_is_refused(tmp_path):
    archive = write_zip(tmp_path / "a.zip", {"a": bytes(1000)})
    content = archive.read_bytes()
    size, lie = (1000).to_bytes(4, "little"), (10).to_bytes(4, "little")
    assert content.count(size) == 2  # before the member and in the directory
    archive.write_bytes(content.replace(size, lie))
    (problem,) = problems_of(archive, tmp_path / "out")
    assert "not a whole one" in problem
    assert contents(tmp_path / "out") == {}


def test_a_wrong_checksum_in_a_zip_is_noticed(tmp_path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as stored:
        stored.writestr("first", b"first content")
        stored.writestr("second", b"second content")
    archive.write_bytes(archive.read_bytes().replace(b"second content", b"SECOND content"))
    (problem,) = problems_of(archive, tmp_path / "out")
    assert "Bad CRC-32 for file 'second'" in problem
    assert contents(tmp_path / "out") == {"first": b"first content"}


def test_what_is_no_archive(tmp_path):
    archive = tmp_path / "a.zip"
    for content, found in [
        (QUOTA, "an HTML page came that says the quota of downloads is exceeded, expected an arch"),
        (b"nothing of the kind", "no zip or tar archive, or not a whole one"),
        (b"", "no zip or tar archive, or not a whole one"),
    ]:
        archive.write_bytes(content)
        (problem,) = problems_of(archive, tmp_path / "out")
        assert problem.startswith(f"{archive}: {found}")
        assert problem.endswith("; delete it and run again to download it again")


@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=40,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@example(1 - 1e-9)
@given(st.floats(0, 1, exclude_max=True))
def test_a_truncated_archive_is_never_taken_for_a_whole_one(tmp_path, kind, share):
    whole = write(tmp_path, kind, FILES).read_bytes()
    # A tar is whole with the first of the blocks of zeros at its end.
    needed = (-(-len(whole.rstrip(b"\0")) // 512) + 1) * 512 if kind == "tar" else len(whole)
    half = tmp_path / f"half.{kind}"
    half.write_bytes(whole[: int(share * needed)])
    folder = tmp_path / f"out{kind}"
    (problem,) = problems_of(half, folder)
    assert problem.startswith(f"{half}: no zip or tar archive, or not a whole one")
    assert contents(folder).items() <= FILES.items()
