"""Draw the robustness curves of all models."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

import pandas as pd

from mmlens.figures.robustness import robustness_curves
from mmlens.figures.style import save

output = snakemake.output
save(robustness_curves(pd.read_csv(snakemake.input.table)), output.svg, output.png)
