"""Data sets: each module fetches (or writes) raw files and reads them into the samples table."""

from ..registry import Registry

DATASETS = Registry("dataset", __name__)
register_dataset = DATASETS.register
