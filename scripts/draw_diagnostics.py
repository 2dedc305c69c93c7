"""Draw the attention of one model over its layers, its logit lens and its mean attention."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

import pandas as pd

from mmlens.diagnostics.tables import mean_maps
from mmlens.figures.layer_curves import cross_modal_curves, entropy_curves
from mmlens.figures.logit_lens import logit_lens
from mmlens.figures.mean_attention import mean_attention
from mmlens.figures.style import label, save

inputs, outputs, seed = snakemake.input, snakemake.output, snakemake.params.seed
model = snakemake.wildcards.model


def of_model(path):
    table = pd.read_csv(path, dtype={"head": str})
    return table[table["model"] == model]


lens = of_model(inputs.lens)
records = pd.read_parquet(inputs.records)
title = label(model)
figures = {
    "attention_entropy": entropy_curves(of_model(inputs.entropy), title),
    "cross_modal_attention": cross_modal_curves(of_model(inputs.cross_modal), title),
    "logit_lens": logit_lens(lens[lens["seed"] == seed], f"{title}, seed {seed}"),
    "mean_attention": mean_attention(
        mean_maps(records), f"{title}, seed {seed}: attention of the readout token"
    ),
}
for kind, figure in figures.items():
    save(figure, outputs[kind], outputs[f"{kind}_png"])
