"""Verified downloads: nothing half-written, nothing unchecked, nothing fetched twice."""

from .archive import extract
from .common import (
    DownloadError,
    NotFoundError,
    is_here,
    known_record,
    progress_bar,
    run_all,
)
from .hosts import describe_on_hub, fetch_from_drive, fetch_from_hub
from .urls import fetch_file, fetch_many

__all__ = [
    "DownloadError",
    "NotFoundError",
    "describe_on_hub",
    "extract",
    "fetch_file",
    "fetch_from_drive",
    "fetch_from_hub",
    "fetch_many",
    "is_here",
    "known_record",
    "progress_bar",
    "run_all",
]
