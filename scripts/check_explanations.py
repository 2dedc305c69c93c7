"""Sanity checks of the explanations of one trained model, and what it owes to each modality."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

import pandas as pd
import torch

from mmlens.device import torch_device
from mmlens.explanation.explain import choose_rows, explain
from mmlens.explanation.trained import load_trained, read_labelled
from mmlens.perturbation.modality import emap, modality_share
from mmlens.perturbation.sanity import check_maps
from mmlens.table import DataError, write_parquet

params, settings = snakemake.params, snakemake.params.explain
try:
    samples, answers = read_labelled(snakemake.input)
except DataError as error:
    sys.exit(str(error))
chosen = choose_rows(samples, settings["split"], params.sanity["samples"])
model, data, predicted = load_trained(snakemake.input, params.model, chosen, answers)
chosen = data.samples
checks = {**params.sanity, "batch_size": settings["batch_size"]}
with torch_device(params.device, params.torch_threads) as device:
    model.to(device).eval()

    def explained(data, classes, methods):
        return explain(
            model,
            data,
            classes,
            methods=methods,
            draws=1,
            batch_size=settings["batch_size"],
            memory=settings["memory"],
            device=device,
            layers=settings["grad_cam_layers"].get(snakemake.wildcards.model),
            arguments=settings["arguments"],
        )

    frames = [check_maps(model, data, predicted, explained, checks, device)]
    with torch.no_grad():
        tokens = model.embed(data.batch(torch.arange(len(data)), device))
    if "modality_share" in checks["checks"]:
        target, rows = predicted.to(device), params.batch_size
        frames.append(modality_share(model, tokens, chosen["sample_id"], target, rows))
    if "emap" in checks["checks"]:
        few = choose_rows(chosen, settings["split"], checks["emap_samples"])
        kept = chosen["sample_id"].isin(few["sample_id"]).to_numpy()
        index = torch.tensor(kept, device=device).nonzero()[:, 0]
        part = {modality: found.rows(index) for modality, found in tokens.items()}
        frames.append(emap(model, part, chosen[kept], answers, params.batch_size))
write_parquet(snakemake.output[0], pd.concat(frames, ignore_index=True))
