"""Train one model with one seed, choose checkpoint and threshold on val, predict."""

import os
import sys

# Processes that train together share the log of the one that started them.
mode = "a" if "LOCAL_RANK" in os.environ else "w"
sys.stderr = sys.stdout = open(snakemake.log[0], mode, buffering=1)

from contextlib import nullcontext
from pathlib import Path

import torch
import yaml

from mmlens.device import torch_device
from mmlens.features.reader import FeatureReader
from mmlens.files import seed_from, sha256_file, stable_hash, write_json, write_text
from mmlens.metrics import choose_threshold
from mmlens.models import build_model, input_spec
from mmlens.models.inputs import EncodedSamples
from mmlens.table import read_samples, read_table, task_of, write_csv, write_parquet
from mmlens.training.cost import model_cost
from mmlens.training.frozen import trained_part
from mmlens.training.loop import train
from mmlens.training.predict import predict, prediction_table
from mmlens.training.processes import join_processes, launch
from mmlens.training.state import remove_state
from mmlens.training.zero_shot import logits_function
from mmlens.weights import load_weights, save_weights

seed = int(snakemake.wildcards.seed)
params, inputs, output = snakemake.params, snakemake.input, snakemake.output
if params.training["processes"] > 1 and mode == "w":
    # Each runs this script, in the form that Snakemake gave it; the first one writes.
    raise SystemExit(launch(__real_file__, params.training["processes"]))
effective = {
    "model": params.model,
    "training": params.training,
    "seed": seed,
    "inputs": {
        path: sha256_file(path)
        for path in (
            inputs.samples,
            inputs.tokenizer,
            inputs.classes,
            *inputs.stem,
            *inputs.start,
            *inputs.features,
        )
    },
}
# Undeclared, so that Snakemake keeps it when the job is killed; keyed by all that the weights
# depend on, the code included, so that no other training resumes from it.
code = [torch.__version__, *(sha256_file(path) for path in inputs.lib)]
key = stable_hash([effective, code])
state_path = Path(output.weights).parent.with_name(f".seed{seed}-{key}.pt")
name, arguments = params.model["name"], params.model["arguments"]
samples = read_samples(inputs.samples)
task, names = task_of(samples), read_table(inputs.classes)["name"].tolist()
data = EncodedSamples(
    samples,
    input_spec(name, arguments, inputs.tokenizer, params.model["max_length"]),
    features=FeatureReader(inputs.features[0]) if inputs.features else None,
    answers=names if task == "answers" else None,
)
torch.manual_seed(seed_from("weights", seed))
model = build_model(name, arguments, data)
if inputs.stem and model.image_stem is not None:
    load_weights(inputs.stem[0], model.image_stem)
# Not of params: where a training is logged is no reason to train again.
tracking = snakemake.config["tracking"]
log = nullcontext()
if tracking["mlflow"] and tracking["live"] and os.environ.get("LOCAL_RANK", "0") == "0":
    from mmlens.tracking import live_log

    run, model_name = snakemake.wildcards.run, snakemake.wildcards.model
    resumed = state_path.is_file()
    log = live_log(tracking, run, model_name, seed, effective, resumed=resumed)
with torch_device(params.device, params.torch_threads) as device, log as on_epoch:
    model.to(device)
    processes = join_processes(device)
    # Of a model with a frozen encoder the head alone, on vectors that are computed once.
    part, part_data = trained_part(model, data, device)
    history = train(
        part,
        part_data,
        params.training,
        seed=seed,
        device=device,
        state_path=state_path,
        processes=processes,
        on_epoch=on_epoch,
    )
    if not processes.is_first:
        raise SystemExit
    threshold = None
    if task == "binary":
        rows = data.split("val")
        probability = predict(part, part_data, rows, device).double().sigmoid().numpy()
        threshold = choose_threshold(data.labels[rows].numpy(), probability)
    logits_of = logits_function(part, part_data, task, names, params.zero_shot, device)
    predictions = prediction_table(
        logits_of, data, params.splits, threshold, scores=task == "classes"
    )
    cost = model_cost(model, data, device) | {"trainable": history.attrs["trainable"]}
effective |= {"device": device.type, "threshold": threshold}
save_weights(output.weights, model)
write_csv(output.history, history)
write_json(output.cost, cost)
write_text(output.config, yaml.safe_dump(effective))
write_parquet(output.predictions, predictions)
remove_state(state_path)
