"""Published results of the run's data set, beside those that this run measured."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from pathlib import Path

import pandas as pd

from mmlens.evaluation.published import (
    beside_published,
    label_versions,
    measured_results,
    read_published,
)
from mmlens.table import write_csv

tables = {
    Path(path).stem: pd.read_csv(path, dtype={"seeds": str}) for path in snakemake.input.tables
}
published = read_published(snakemake.input.published)
labels = label_versions(pd.read_csv(snakemake.input.quality))
measured = measured_results(tables)
found = beside_published(published, snakemake.params.published, measured, labels)
write_csv(snakemake.output[0], found)
