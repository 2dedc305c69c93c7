"""Unpacking of downloaded archives, which are not trusted."""

import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..files import atomic
from .common import DownloadError, check_space, html_page

CHUNK = 2**20
AGAIN = "delete it and run again to download it again"
# RuntimeError stands for an encrypted member or an unknown compression.
DAMAGES = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    RuntimeError,
)


@dataclass(frozen=True)
class Member:
    """A member of an archive: name, bytes, kind (file, folder or other), function to open it."""

    name: str
    size: int
    kind: str
    open: Callable


def extract(archive, folder, *, largest=50 * 2**30, members=None):
    """Unpack a zip or tar archive; what is there already with the right size is left alone.

    All members are checked before the first is written. Each one appears under its name only
    when it is complete and, in a zip, its checksum is right.

    Parameters
    ----------
    largest : bytes that all members together may have
    members : collection of str, or function, or None
        Names of the members to unpack, all of which must be there; or which says of a name
        whether it is wanted; None for all.

    Returns
    -------
    list of Path, the files in the order of the archive

    Raises
    ------
    DownloadError if the archive is damaged, too large, lacks one of `members`, or holds a link, a
    device, or a name that leads out of `folder`.
    """
    archive, folder = Path(archive), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with opened(archive) as content:
        wanted = members if callable(members) or members is None else set(members).__contains__
        chosen = [member for member in content if wanted is None or wanted(member.name)]
        absent = set(members) - {m.name for m in chosen} if isinstance(members, Collection) else ()
        check_members(archive, content, chosen, absent, folder, largest)
        files = [member for member in chosen if member.kind == "file"]
        missing = [member for member in files if not is_there(folder / member.name, member.size)]
        check_space(folder, sum(member.size for member in missing))
        for member in missing:
            write_member(member, folder / member.name)
    return [folder / member.name for member in files]


@contextmanager
def opened(archive):
    """Yield the list of `Member` of an archive; DownloadError if it is none or is damaged."""
    with open(archive, "rb") as file:
        first = file.read(2**16)
    page = html_page(first)
    if page:
        raise DownloadError([f"{archive}: {page}, expected an archive; {AGAIN}"])
    try:
        if first.startswith(b"PK"):
            with zipfile.ZipFile(archive) as content:
                yield [of_zip(content, info) for info in content.infolist()]
        else:
            with tarfile.open(archive, "r:*") as content:
                members = content.getmembers()
                check_end(content)
                yield [of_tar(content, info) for info in members]
    except DAMAGES as error:
        reason = " ".join(str(error).split())
        problem = f"{archive}: no zip or tar archive, or not a whole one ({reason}); {AGAIN}"
        raise DownloadError([problem]) from error


def check_end(content):
    """tarfile.ReadError if a tar archive lacks the block of zeros behind its last member."""
    content.fileobj.seek(content.offset)
    if not content.fileobj.read(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("the end of the archive is missing")


def of_zip(content, info):
    mode = stat.S_IFMT(info.external_attr >> 16)  # 0 where no Unix wrote the archive
    kind = "folder" if info.is_dir() else "file" if mode in (0, stat.S_IFREG) else "other"
    return Member(plain(info.filename), info.file_size, kind, lambda: content.open(info))


def of_tar(content, info):
    kind = "folder" if info.isdir() else "file" if info.isreg() else "other"
    return Member(plain(info.name), info.size, kind, lambda: content.extractfile(info))


def plain(name):
    """A member's name without "./" and a slash at its end."""
    return str(PurePosixPath(name))


def check_members(archive, members, chosen, absent, folder, largest):
    """DownloadError with every reason not to unpack the chosen ones of all members."""
    problems = [f"{archive}: no member {name}; is it the right archive?" for name in sorted(absent)]
    root = folder.resolve()
    for member in members:
        path = PurePosixPath(member.name)
        inside = not path.is_absolute() and (root / path).resolve().is_relative_to(root)
        if not inside or ".." in path.parts:
            problems.append(
                f"{archive}: member {member.name!r} leads out of {folder}; not unpacked"
            )
    problems += [
        f"{archive}: member {member.name!r} is a link or a device, expected files and folders "
        f"only; nothing done"
        for member in chosen
        if member.kind == "other"
    ]
    total = sum(member.size for member in chosen)
    if total > largest:
        problems.append(
            f"{archive}: its members have {total} bytes unpacked, expected at most {largest}; "
            f"nothing done"
        )
    if problems:
        raise DownloadError(problems)


def is_there(path, size):
    return path.is_file() and path.stat().st_size == size


def write_member(member, path):
    """Write one member under its name; EOFError if it ends early, no byte more than it says."""
    with atomic(path) as temporary, member.open() as source, open(temporary, "wb") as target:
        left = member.size
        while chunk := source.read(min(CHUNK, left + 1)):
            left -= len(chunk)
            if left < 0:
                break
            target.write(chunk)
        if left:
            raise EOFError(f"{member.name} does not have the {member.size} bytes that it names")
