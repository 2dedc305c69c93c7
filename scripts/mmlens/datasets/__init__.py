"""Data sets: each module fetches (or writes) raw files and reads them into the samples table."""

from ..registry import Registry

DATASETS = Registry("dataset", __name__)
register_dataset = DATASETS.register

# generate(root, **settings): writes the raw files of a data set that no one else has.
GENERATORS = Registry("generator", __name__)
register_generator = GENERATORS.register

# fetch(settings) -> records {path, url, size, sha256, etag, licence}, for data sets whose raw
# files can be downloaded; they land below settings["root"].
DOWNLOADS = Registry("download", __name__)
register_download = DOWNLOADS.register
