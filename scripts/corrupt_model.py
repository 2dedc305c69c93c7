"""Predictions of one trained model for corrupted images and texts."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from tempfile import TemporaryDirectory

import pandas as pd

from mmlens.device import torch_device
from mmlens.explanation.explain import choose_rows
from mmlens.explanation.trained import build_trained
from mmlens.features import get_extractor
from mmlens.robustness.corrupted import Corrupter
from mmlens.robustness.records import predict_corrupted, true_similarity
from mmlens.table import DataError, check_labels, read_samples, read_table, task_of, write_parquet
from mmlens.training.zero_shot import logits_function

params, inputs, settings = snakemake.params, snakemake.input, snakemake.params.robustness
samples = read_samples(inputs.samples)
task, names = task_of(samples), read_table(inputs.classes)["name"].tolist()
try:
    check_labels(samples)
    count = settings["samples"] or len(samples)
    chosen = choose_rows(samples, settings["split"], count, section="robustness")
    answers = names if task == "answers" else None
    model, data = build_trained(inputs, params.model, chosen, answers, samples)
except DataError as error:
    sys.exit(str(error))
missing = {
    modality: f"not applicable: {model.name} reads no {modality}"
    for modality in ("image", "text")
    if modality not in model.modalities
}
if task == "classes":
    missing["text"] = "not applicable: the texts are the prompts of the classes"
if params.captions:
    missing["image"] = "not applicable: the texts hold captions of the clean images"
extractor = None
if data.features is not None:
    extractor = get_extractor(params.extractor["name"], **params.extractor["settings"])
    if extractor.reads_names:  # whose boxes are annotations, and stay where they are
        missing["rotation"] = "not applicable: the annotated boxes do not turn with the image"
    if not extractor.reads_images:
        missing["image"] = "not applicable: the features were computed elsewhere"
        extractor = None
threshold = pd.read_parquet(inputs.predictions)["threshold"].iat[0] if task == "binary" else None
with torch_device(params.device, params.torch_threads) as device, TemporaryDirectory() as folder:
    model.to(device).eval()
    records = predict_corrupted(
        lambda data: logits_function(model, data, task, names, params.zero_shot, device),
        Corrupter(data, params.size, extractor, device, folder),
        settings["corruptions"],
        missing,
        threshold,
        true_similarity(model, data, task, device),
    )
for note in sorted(set(records["note"]) - {""}):
    print(note)
write_parquet(snakemake.output[0], records)
