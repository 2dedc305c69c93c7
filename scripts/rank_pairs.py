"""Rank captions for images, images for captions and classes for images, with one trained model."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

import numpy as np
import pandas as pd
import torch

from mmlens.device import torch_device
from mmlens.explanation.trained import build_trained
from mmlens.files import atomic
from mmlens.perturbation.randomisation import randomised
from mmlens.ranking import RANDOM, SHUFFLED
from mmlens.ranking.scores import (
    COLUMNS,
    caption_table,
    class_records,
    ranking_records,
    score_captions,
)
from mmlens.table import read_samples, read_table, write_parquet
from mmlens.training.zero_shot import class_scores

params, inputs, output = snakemake.params, snakemake.input, snakemake.output
zero_shot, seed = params.zero_shot, params.statistics["seed"]
samples = read_samples(inputs.samples)
chosen = samples[samples["split"] == "test"]
names = read_table(inputs.classes)["name"].tolist()
predictions = pd.read_parquet(inputs.predictions).set_index("sample_id")
first = None
if inputs.first:
    with np.load(inputs.first[0]) as kept:
        first = kept["image"] @ kept["text"].T
records, kept = [], {}
model, data = build_trained(inputs, params.model, chosen)
contrastive = model.contrastive
with torch_device(params.device, params.torch_threads) as device:
    model.to(device).eval()
    rows = torch.arange(len(data))
    own, kept, similarity = score_captions(
        model, data, rows, first=first, head=zero_shot["rerank"], device=device
    )
    order = own["image"] if first is None else first
    for control in ("", SHUFFLED):
        records.append(ranking_records(data.samples, own, order, similarity, control, seed))
    # Pairs of images and prompts are dear, and were all scored when the model predicted.
    values = (
        class_scores(model, data, rows, names, zero_shot["prompts"], device)[0].numpy()
        if contrastive
        else np.stack(predictions.loc[data.samples["sample_id"], "scores"])
    )
    records.append(class_records(data.samples, values, contrastive, ""))
    with randomised(dict(model.named_parameters()), seed):
        rows = rows[: zero_shot["control_images"]]
        part = data.samples.iloc[rows.numpy()]
        # What another model knows would lift the control above chance.
        rng = np.random.default_rng(seed)
        blind = None if first is None else rng.random(caption_table(part)[1].shape)
        own, _, similarity = score_captions(
            model, data, rows, first=blind, head=zero_shot["rerank"], device=device
        )
        order = own["image"] if blind is None else blind
        records.append(ranking_records(part, own, order, similarity, RANDOM, seed))
        values = class_scores(model, data, rows, names, zero_shot["prompts"], device)[0].numpy()
        records.append(class_records(part, values, contrastive, RANDOM))
write_parquet(output.records, pd.concat(records, ignore_index=True)[list(COLUMNS)])
with atomic(output.embeddings) as temporary, open(temporary, "wb") as handle:
    np.savez(handle, **{name: values.astype(np.float32) for name, values in kept.items()})
