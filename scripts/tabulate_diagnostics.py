"""Entropy and cross-modal mass of attention, and the logit lens, of every model and seed."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from mmlens.diagnostics.tables import tabulate_attention, tabulate_depth, tabulate_lens
from mmlens.table import read_runs, read_samples, write_csv

params, outputs = snakemake.params, snakemake.output
samples = read_samples(snakemake.input.samples)
records = read_runs(snakemake.input.records, params.models, params.seeds)
for path, measure in ((outputs.entropy, "entropy"), (outputs.cross_modal, "cross_modal_mass")):
    write_csv(path, tabulate_attention(records, samples, measure, **params.statistics))
write_csv(outputs.lens, tabulate_lens(records, samples, **params.statistics))
write_csv(outputs.depth, tabulate_depth(records, samples, **params.statistics))
