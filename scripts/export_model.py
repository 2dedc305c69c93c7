"""Export one model with all that it takes to use it elsewhere, and its card."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

import json
from pathlib import Path

import yaml

from mmlens.files import sha256_file, write_text
from mmlens.models import input_spec
from mmlens.models.exports import architecture_of, build_exported, text_settings, write_export
from mmlens.report.card import model_card
from mmlens.table import read_samples, read_table, task_of

params, inputs, wildcards = snakemake.params, snakemake.input, snakemake.wildcards
name, arguments = params.model["name"], params.model["arguments"]
checkpoint = yaml.safe_load(Path(inputs.config).read_text(encoding="utf-8"))
samples = read_samples(inputs.samples)
spec = input_spec(name, arguments, inputs.tokenizer, params.model["max_length"])
features = None
if inputs.features:
    facts = json.loads(Path(inputs.features[0]).with_name("facts.json").read_text())
    features = {key: facts[key] for key in ("width", "tokens", "grid", "settings")}
    features["extractor"] = params.extractor
reports = [Path(path) for path in inputs.start if Path(path).name == "weights.json"]
start = [json.loads(path.read_text()) for path in reports]
if "weights" in arguments and not start:
    start = [{"source": arguments["weights"]}]
config = {
    **architecture_of(name, arguments),
    **text_settings(spec),
    "task": task_of(samples),
    "classes": read_table(inputs.classes)["name"].tolist(),
    "zero_shot": params.zero_shot,
    "threshold": checkpoint["threshold"],
    "features": features,
    "start": [
        {key: part.get(key, "") for key in ("source", "revision", "licence")} for part in start
    ],
    "stem": params.stem,
    "training": checkpoint["training"],
    "data": {"kind": params.kind, "sha256": sha256_file(inputs.samples)},
}
metrics = json.loads(Path(inputs.metrics).read_text())
counts = samples["split"].value_counts(sort=False).to_dict()
folder = Path(snakemake.output.card).parent
write_export(folder, inputs.weights, spec, config)
model = build_exported(folder)  # so that what cannot be read again is found here
card = model_card(
    *(wildcards.model, wildcards.run, wildcards.seed),
    *(config, model.modalities, counts, metrics),
)
write_text(snakemake.output.card, card)
