"""Draw the confusion matrix of every model and seed on the test split."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from mmlens.figures.confusion_matrices import confusion_matrices
from mmlens.figures.style import save
from mmlens.table import read_runs

figure = confusion_matrices(
    read_runs(snakemake.input.predictions, snakemake.params.models, snakemake.params.seeds)
)
save(figure, snakemake.output.svg, snakemake.output.png)
