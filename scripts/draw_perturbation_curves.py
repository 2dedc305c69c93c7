"""Draw the perturbation curves of one model over its explained seeds."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from mmlens.figures.perturbation_curves import perturbation_curves
from mmlens.figures.style import label, save, seed_count
from mmlens.perturbation.curves import mean_curves
from mmlens.table import read_parts, read_samples

perturbation = read_parts(snakemake.input.perturbation, seed=snakemake.params.seeds)
samples = read_samples(snakemake.input.samples)
curves = mean_curves(perturbation, samples, **snakemake.params.statistics)
count = perturbation["sample_id"].nunique()
title = f"{label(snakemake.wildcards.model)}, {count} samples, {seed_count(snakemake.params.seeds)}"
save(perturbation_curves(curves, title), snakemake.output.svg, snakemake.output.png)
