"""Metrics of every model and seed with intervals, and the comparison of all of them."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from mmlens.evaluation.answers import compare_answers, evaluate_answers
from mmlens.evaluation.classification import compare, evaluate
from mmlens.files import write_json
from mmlens.table import (
    DataError,
    check_labels,
    read_runs,
    read_samples,
    read_table,
    task_of,
    write_csv,
)

params, inputs, output = snakemake.params, snakemake.input, snakemake.output
runs = [(model, seed) for model in params.models for seed in params.seeds]
predictions = read_runs(inputs.predictions, params.models, params.seeds)
samples = read_samples(inputs.samples)
try:
    check_labels(samples)
except DataError as error:
    sys.exit(str(error))
# Answers and classes have the same two functions as two labels, which need their names too.
one, all_of_them, own = evaluate, compare, ()
if task_of(samples) != "binary":
    names = read_table(inputs.classes)["name"].tolist()
    one, all_of_them, own = evaluate_answers, compare_answers, (names, params.any_present)
results = {}
for (model, seed), path in zip(runs, output.metrics, strict=True):
    chosen = predictions[(predictions["model"] == model) & (predictions["seed"] == seed)]
    results[model, seed] = one(chosen, samples, *own, **params.statistics)
    write_json(path, results[model, seed], indent=1)
write_csv(output.comparison, all_of_them(results, predictions, samples, *own, **params.statistics))
