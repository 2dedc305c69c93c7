"""The robustness table of all models."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

import pandas as pd

from mmlens.robustness.table import robustness_table
from mmlens.table import read_samples, read_table, write_csv

params, inputs = snakemake.params, snakemake.input
samples = read_samples(inputs.samples)
names = read_table(inputs.classes)["name"].tolist()
runs = [(model, seed) for model in params.models for seed in params.seeds]
tables = []
for (model, seed), path in zip(runs, inputs.records, strict=True):
    found = robustness_table(
        pd.read_parquet(path), samples, names, params.any_present, **params.statistics
    )
    found.insert(0, "seed", seed)
    found.insert(0, "model", model)
    tables.append(found)
write_csv(snakemake.output[0], pd.concat(tables))
