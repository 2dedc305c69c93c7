"""Look into one trained model: its attention, and the decisions of its layers."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from mmlens.device import torch_device
from mmlens.diagnostics.records import diagnose
from mmlens.explanation.explain import choose_rows
from mmlens.explanation.trained import load_trained, read_labelled
from mmlens.table import DataError, task_of, write_parquet

params, settings = snakemake.params, snakemake.params.diagnostics
try:
    samples, answers = read_labelled(snakemake.input)
except DataError as error:
    sys.exit(str(error))
chosen = choose_rows(samples, settings["split"], settings["samples"])
model, data, _ = load_trained(snakemake.input, params.model, chosen, answers)
said = data.samples
# The one logit of an image and its caption decides between no classes.
readouts = () if task_of(samples) == "classes" else settings["readouts"]
with torch_device(params.device, params.torch_threads) as device:
    records = diagnose(
        model.to(device).eval(),
        data,
        said["prediction"].to_numpy(),
        thresholds=said["threshold"].to_numpy() if task_of(samples) == "binary" else None,
        readouts=readouts,
        batch_size=settings["batch_size"],
        device=device,
        seed=int(snakemake.wildcards.seed),
    )
print(records["measure"].value_counts().to_string())
for note in sorted(set(records["note"]) - {""}):
    print(note)
write_parquet(snakemake.output.records, records)
