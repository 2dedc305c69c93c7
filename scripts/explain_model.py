"""Explain a trained model and test the explanations by perturbation, for a shard of its samples."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

import pandas as pd
import torch

from mmlens.device import torch_device
from mmlens.explanation.explain import choose_rows, explain
from mmlens.features.reader import FeatureReader
from mmlens.models import build_model, input_spec
from mmlens.models.inputs import EncodedSamples
from mmlens.perturbation.blocks import perturb_blocks
from mmlens.perturbation.shards import shard_rows
from mmlens.perturbation.sources import Sources
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
explained = choose_rows(samples, settings["split"], settings["samples"])
shard = int(snakemake.wildcards.get("shard", 0))
rows = shard_rows(len(explained), settings["batch_size"], shard, settings["shards"])
if not rows:  # of more shards than there are batches
    for path in snakemake.output:
        write_parquet(path, pd.DataFrame())
    sys.exit()
predictions = pd.read_parquet(snakemake.input.predictions).set_index("sample_id")
chosen = explained.iloc[rows].join(predictions[["prediction", "threshold"]], on="sample_id")
spec = input_spec(name, arguments, snakemake.input.tokenizer, params.model["max_length"])
data = EncodedSamples(
    chosen,
    spec,
    features=FeatureReader(snakemake.input.features[0]) if snakemake.input.features else None,
    answers=answers,
)
sources = Sources(explained, spec, params.perturbation["operators"])
model = build_model(name, arguments, data)
load_weights(snakemake.input.weights, model)
predicted = torch.tensor(chosen["prediction"].to_numpy())
with torch_device(params.device, params.torch_threads) as device:
    model.to(device).eval()
    attributions = explain(
        model,
        data,
        predicted if answers else predicted == 1,
        methods=params.methods,
        draws=settings["random_draws"],
        batch_size=settings["batch_size"],
        memory=settings["memory"],
        device=device,
        layers=settings["grad_cam_layers"].get(snakemake.wildcards.model),
        arguments=settings["arguments"],
    )
    perturbation = perturb_blocks(
        model,
        data,
        attributions,
        sources,
        block=settings["batch_size"],
        device=device,
        answers=answers,
        **params.perturbation,
    )
print(attributions["flags"].value_counts().to_string())
write_parquet(snakemake.output.attributions, attributions)
write_parquet(snakemake.output.perturbation, perturbation)
