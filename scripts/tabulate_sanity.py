"""Sanity checks of every model, explained seed and method, with intervals."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from mmlens.perturbation.sanity_table import tabulate_sanity
from mmlens.table import read_runs, read_samples, write_csv

params, inputs = snakemake.params, snakemake.input
records = read_runs(inputs.records, params.models, params.seeds)
samples = read_samples(inputs.samples)
write_csv(snakemake.output[0], tabulate_sanity(records, samples, **params.statistics))
