"""Collect what jobs cost from their benchmark files, and what models cost."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from mmlens.report.cost import collect, collect_models
from mmlens.table import write_csv

write_csv(snakemake.output.jobs, collect(snakemake.input.benchmarks))
write_csv(snakemake.output.models, collect_models(snakemake.input.models))
