"""Look into one trained model: its attention, and the decisions of its layers."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

import pandas as pd

from mmlens.device import torch_device
from mmlens.diagnostics.records import diagnose
from mmlens.explanation.explain import choose_rows
from mmlens.features.reader import FeatureReader
from mmlens.models import build_model, input_spec
from mmlens.models.inputs import EncodedSamples
from mmlens.table import DataError, answer_names, check_labels, read_samples, write_parquet
from mmlens.weights import load_weights

params, settings = snakemake.params, snakemake.params.diagnostics
name, arguments = params.model["name"], params.model["arguments"]
samples = read_samples(snakemake.input.samples)
try:
    check_labels(samples)
except DataError as error:
    sys.exit(str(error))
answers = answer_names(samples, snakemake.input.classes)
chosen = choose_rows(samples, settings["split"], settings["samples"])
predictions = pd.read_parquet(snakemake.input.predictions).set_index("sample_id")
said = predictions.loc[chosen["sample_id"]]
data = EncodedSamples(
    chosen,
    input_spec(name, arguments, snakemake.input.tokenizer, params.model["max_length"]),
    features=FeatureReader(snakemake.input.features[0]) if snakemake.input.features else None,
    answers=answers,
)
model = build_model(name, arguments, data)
load_weights(snakemake.input.weights, model)
with torch_device(params.device, params.torch_threads) as device:
    records = diagnose(
        model.to(device).eval(),
        data,
        said["prediction"].to_numpy(),
        thresholds=None if answers else said["threshold"].to_numpy(),
        readouts=settings["readouts"],
        batch_size=settings["batch_size"],
        device=device,
    )
print(records["measure"].value_counts().to_string())
for note in sorted(set(records["note"]) - {""}):
    print(note)
write_parquet(snakemake.output.records, records)
