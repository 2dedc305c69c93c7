"""Join the attributions and perturbation tests of all shards of one model's samples."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

import pandas as pd

from mmlens.perturbation.shards import join_shards
from mmlens.table import write_parquet

for kind in ("attributions", "perturbation"):
    frames = [pd.read_parquet(path) for path in snakemake.input[kind]]
    write_parquet(snakemake.output[kind], join_shards(frames))
