"""Collect seconds and peak memory of every job from its benchmark file."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from mmlens.report.cost import collect
from mmlens.table import write_csv

write_csv(snakemake.output[0], collect(snakemake.input.benchmarks))
