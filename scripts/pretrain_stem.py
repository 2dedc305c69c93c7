"""Pretrain the convolutional stem that all models share."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

import pandas as pd

from mmlens.device import torch_device
from mmlens.features.stem import pretrain_stem
from mmlens.files import write_json
from mmlens.models.inputs import EncodedSamples, own_inputs
from mmlens.table import read_samples
from mmlens.weights import save_weights

model, params = snakemake.params.model, snakemake.params
samples = read_samples(snakemake.input.samples)
samples = samples[samples["split"] == "train"]
data = EncodedSamples(samples, own_inputs(snakemake.input.tokenizer, model["image_size"]))
truth = pd.read_parquet(snakemake.input.truth)
grid = (model["image_size"] // 16, model["image_size"] // 16)
with torch_device(params.device, params.torch_threads) as device:
    stem, accuracy = pretrain_stem(
        data, truth, params.stem, width=model["width"], grid=grid, seed=params.seed, device=device
    )
facts = {"accuracy": accuracy, "device": device.type, **params.stem}
print(facts)
save_weights(snakemake.output.weights, stem)
write_json(snakemake.output.facts, facts)
