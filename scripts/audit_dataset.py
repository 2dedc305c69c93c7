"""Audit the samples table: what do text alone, image alone and counts say about the label?"""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

import pandas as pd

from mmlens.datasets.audit import audit, check
from mmlens.table import DataError, read_samples, write_csv

enforce = snakemake.params.enforce
samples = read_samples(snakemake.input.samples)
table = audit(samples, pd.read_parquet(snakemake.input.truth))
print(table.to_string(index=False))
if enforce:
    try:
        check(table)
    except DataError as error:
        sys.exit(str(error))
else:
    # Found data has no promise to keep: its numbers are reported, not judged.
    table = table.assign(limit=float("nan"), passed="")
write_csv(snakemake.output[0], table)
