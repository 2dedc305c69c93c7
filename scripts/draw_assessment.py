"""Draw the metrics of groups and the reliability of probabilities."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

import pandas as pd

from mmlens.figures.fairness import group_intervals
from mmlens.figures.reliability import reliability_diagrams
from mmlens.figures.style import save

inputs, output = snakemake.input, snakemake.output
# A group may be called NA.
as_written = {"keep_default_na": False, "na_values": [""]}
groups = pd.read_csv(inputs.groups, dtype={"group": str}, **as_written)
gaps = pd.read_csv(inputs.gaps, **as_written)
save(group_intervals(groups, gaps), output.fairness, output.fairness_png)
if inputs.bins:
    figure = reliability_diagrams(pd.read_csv(inputs.bins), pd.read_csv(inputs.calibration))
    save(figure, output.reliability, output.reliability_png)
