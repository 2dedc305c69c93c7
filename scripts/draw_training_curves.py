"""Draw loss and validation AUROC per epoch of every model and seed."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

import pandas as pd

from mmlens.figures.style import save
from mmlens.figures.training_curves import training_curves

runs = [(model, seed) for model in snakemake.params.models for seed in snakemake.params.seeds]
histories = [pd.read_csv(path) for path in snakemake.input.history]
figure = training_curves(dict(zip(runs, histories, strict=True)))
save(figure, snakemake.output.svg, snakemake.output.png)
