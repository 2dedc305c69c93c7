"""Predict with a model as its weights are, without training it."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

import torch
import yaml

from mmlens.device import torch_device
from mmlens.features.reader import FeatureReader
from mmlens.files import seed_from, sha256_file, write_json, write_text
from mmlens.models import build_model, input_spec
from mmlens.models.inputs import EncodedSamples
from mmlens.models.released import fresh_weights
from mmlens.table import DataError, read_samples, read_table, task_of, write_parquet
from mmlens.training.cost import model_cost
from mmlens.training.predict import prediction_table
from mmlens.training.threshold import threshold_of
from mmlens.training.zero_shot import logits_function
from mmlens.weights import save_weights

params, inputs, output = snakemake.params, snakemake.input, snakemake.output
name, arguments = params.model["name"], params.model["arguments"]
samples = read_samples(inputs.samples)
task, names = task_of(samples), read_table(inputs.classes)["name"].tolist()
try:
    data = EncodedSamples(
        samples,
        input_spec(name, arguments, inputs.tokenizer, params.model["max_length"]),
        features=FeatureReader(inputs.features[0]) if inputs.features else None,
        answers=names if task == "answers" else None,
    )
    torch.manual_seed(seed_from("weights", 0))
    model = build_model(name, arguments, data)
    unread = fresh_weights(model, data.batch(torch.arange(len(data))[:2]))
    if unread:
        raise DataError(
            "weights",
            [
                f"variants.{snakemake.wildcards.model}: {arguments['weights']} holds no {part}, "
                "which the logits depend on; train it (train: true), or name weights that have it"
                for part in unread
            ],
        )
except DataError as error:
    sys.exit(str(error))
with torch_device(params.device, params.torch_threads) as device:
    model.to(device)
    threshold, source = None, None
    if task == "binary":
        threshold, source = threshold_of(model, data, arguments["weights"], device)
    logits_of = logits_function(model, data, task, names, params.zero_shot, device)
    predictions = prediction_table(
        logits_of, data, params.splits, threshold, scores=task == "classes"
    )
    cost = model_cost(model, data, device) | {"trainable": 0}
effective = {
    "model": params.model,
    "training": None,
    "inputs": {
        path: sha256_file(path)
        for path in (inputs.samples, inputs.tokenizer, *inputs.start, *inputs.features)
    },
    "device": device.type,
    "threshold": threshold,
    "threshold_from": source,
}
# Of what can never be trained the checkpoint is all there is to keep.
save_weights(output.weights, model if model.trained else torch.nn.Module())
write_json(output.cost, cost)
write_text(output.config, yaml.safe_dump(effective))
write_parquet(output.predictions, predictions)
