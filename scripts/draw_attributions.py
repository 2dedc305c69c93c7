"""Draw what every method marks in example samples of one model."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

import pandas as pd

from mmlens.figures.attributions import attribution_grid
from mmlens.figures.style import label, save
from mmlens.table import answer_names, read_samples

inputs = snakemake.input
samples = read_samples(inputs.samples)
figure = attribution_grid(
    pd.read_parquet(inputs.attributions),
    pd.read_parquet(inputs.predictions),
    samples,
    pd.read_parquet(inputs.truth),
    snakemake.params.methods,
    label(snakemake.wildcards.model),
    names=answer_names(samples, inputs.classes),
)
save(figure, snakemake.output.svg, snakemake.output.png)
