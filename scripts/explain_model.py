"""Explain a trained model and test the explanations by perturbation, for a shard of its samples."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

import pandas as pd

from mmlens.device import torch_device
from mmlens.explanation.explain import choose_rows
from mmlens.explanation.trained import load_trained, read_labelled
from mmlens.perturbation.blocks import explain_and_perturb
from mmlens.perturbation.shards import shard_rows
from mmlens.perturbation.sources import Sources
from mmlens.table import DataError, write_parquet

params, settings = snakemake.params, snakemake.params.explain
try:
    samples, answers = read_labelled(snakemake.input)
except DataError as error:
    sys.exit(str(error))
explained = choose_rows(samples, settings["split"], settings["samples"])
shard = int(snakemake.wildcards.get("shard", 0))
rows = shard_rows(len(explained), settings["batch_size"], shard, settings["shards"])
if not rows:  # of more shards than there are batches
    for path in snakemake.output:
        write_parquet(path, pd.DataFrame())
    sys.exit()
chosen = explained.iloc[rows]
model, data, predicted = load_trained(snakemake.input, params.model, chosen, answers)
sources = Sources(explained, data.spec, params.perturbation["operators"])
with torch_device(params.device, params.torch_threads) as device:
    model.to(device).eval()
    attributions, perturbation = explain_and_perturb(
        model,
        data,
        predicted,
        sources,
        block=settings["batch_size"],
        device=device,
        explaining={
            "methods": params.methods,
            "draws": settings["random_draws"],
            "memory": settings["memory"],
            "layers": settings["grad_cam_layers"].get(snakemake.wildcards.model),
            "arguments": settings["arguments"],
        },
        perturbing={**params.perturbation, "answers": answers},
    )
print(attributions["flags"].value_counts().to_string())
write_parquet(snakemake.output.attributions, attributions)
write_parquet(snakemake.output.perturbation, perturbation)
