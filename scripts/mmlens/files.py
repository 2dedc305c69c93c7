"""Atomic writes and content hashes. Everything that mmlens writes goes through `atomic`."""

import hashlib
import json
import os
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic(path):
    """Yield a temporary path beside `path`; rename it onto `path` if the block succeeds.

    A reader therefore sees the old file, the new file or none, never a half-written one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path, text):
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, value, indent=None):
    write_text(path, json.dumps(value, indent=indent, sort_keys=True) + "\n")


def sha256_file(path):
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def stable_hash(value):
    """Hex SHA-256 (16 digits) of a JSON-serialisable value; key order does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def seed_from(*parts):
    """A 63-bit seed from any strings and numbers: random numbers keyed by what they are for."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
