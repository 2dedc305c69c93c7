"""Draw how the maps of one model change with its parameters, over all its seeds."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from mmlens.figures.sanity import randomisation_curves
from mmlens.figures.style import label, save
from mmlens.perturbation.sanity_table import mean_values
from mmlens.table import read_parts, read_samples

records = read_parts(snakemake.input.records, seed=snakemake.params.seeds)
samples = read_samples(snakemake.input.samples)
means = mean_values(records, samples, **snakemake.params.statistics)
seeds = len(snakemake.params.seeds)
runs = "1 seed" if seeds == 1 else f"{seeds} seeds"
title = f"{label(snakemake.wildcards.model)}, {runs}"
save(randomisation_curves(means, title), snakemake.output.svg, snakemake.output.png)
