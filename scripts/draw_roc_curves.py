"""Draw the ROC curves of every model and seed on the test split."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from mmlens.figures.roc_curves import roc_curves
from mmlens.figures.style import save
from mmlens.table import read_runs, read_samples

predictions = read_runs(
    snakemake.input.predictions, snakemake.params.models, snakemake.params.seeds
)
figure = roc_curves(predictions, read_samples(snakemake.input.samples))
save(figure, snakemake.output.svg, snakemake.output.png)
