"""Draw how the maps of one model change with its parameters, over its explained seeds."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from mmlens.figures.sanity import randomisation_curves
from mmlens.figures.style import label, save, seed_count
from mmlens.perturbation.sanity_table import mean_values
from mmlens.table import read_parts, read_samples

records = read_parts(snakemake.input.records, seed=snakemake.params.seeds)
samples = read_samples(snakemake.input.samples)
means = mean_values(records, samples, **snakemake.params.statistics)
title = f"{label(snakemake.wildcards.model)}, {seed_count(snakemake.params.seeds)}"
save(randomisation_curves(means, title), snakemake.output.svg, snakemake.output.png)
