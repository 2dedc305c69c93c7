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

    def embedded(rows):
        with torch.no_grad():
            return model.embed(data.batch(rows, device))

    if "modality_share" in checks["checks"]:
        shares = []
        for rows in torch.arange(len(data)).split(params.batch_size):
            ids, target = chosen["sample_id"].iloc[rows.numpy()], predicted[rows].to(device)
            shares.append(modality_share(model, embedded(rows), ids, target, len(rows)))
        frames.append(pd.concat(shares).drop_duplicates())  # what does not apply says so once
    if "emap" in checks["checks"]:
        few = choose_rows(chosen, settings["split"], checks["emap_samples"])
        kept = chosen["sample_id"].isin(few["sample_id"]).to_numpy()
        tokens = embedded(torch.from_numpy(kept).nonzero()[:, 0])
        frames.append(emap(model, tokens, chosen[kept], answers, params.batch_size))
write_parquet(snakemake.output[0], pd.concat(frames, ignore_index=True))
