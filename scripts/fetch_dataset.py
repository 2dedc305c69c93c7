"""Download the raw files of a data set and list them; what came stays if the job ends early."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from pathlib import Path

import pandas as pd

from mmlens.datasets import DOWNLOADS
from mmlens.table import DataError, write_csv

COLUMNS = ["path", "url", "size", "sha256", "etag", "licence"]
settings = snakemake.params.dataset
try:
    records = DOWNLOADS.get(settings["kind"])(settings)
except DataError as error:
    sys.exit(str(error))
table = pd.DataFrame(records, columns=COLUMNS)
table["path"] = [Path(path).relative_to(settings["root"]).as_posix() for path in table["path"]]
write_csv(snakemake.output[0], table.sort_values("path"))
