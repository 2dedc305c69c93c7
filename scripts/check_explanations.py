"""Sanity checks of the explanations of one trained model, and what it owes to each modality."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

import pandas as pd
import torch

from mmlens.device import torch_device
from mmlens.explanation.explain import choose_rows, explain
from mmlens.features.reader import FeatureReader
from mmlens.models import build_model, input_spec
from mmlens.models.inputs import EncodedSamples
from mmlens.perturbation.modality import emap, modality_share
from mmlens.perturbation.sanity import check_maps
from mmlens.table import DataError, answer_names, check_labels, read_samples, write_parquet
from mmlens.weights import load_weights

params, settings = snakemake.params, snakemake.params.explain
name, arguments = params.model["name"], params.model["arguments"]
samples = read_samples(snakemake.input.samples)
try:
    check_labels(samples)
except DataError as error:
    sys.exit(str(error))
answers = answer_names(samples, snakemake.input.classes)
chosen = choose_rows(samples, settings["split"], params.sanity["samples"])
predictions = pd.read_parquet(snakemake.input.predictions).set_index("sample_id")
chosen = chosen.join(predictions[["prediction", "threshold"]], on="sample_id")
data = EncodedSamples(
    chosen,
    input_spec(name, arguments, snakemake.input.tokenizer, params.model["max_length"]),
    features=FeatureReader(snakemake.input.features[0]) if snakemake.input.features else None,
    answers=answers,
)
model = build_model(name, arguments, data)
load_weights(snakemake.input.weights, model)
predicted = torch.tensor(chosen["prediction"].to_numpy())
predicted = predicted if answers else predicted == 1
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
