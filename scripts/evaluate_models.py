"""Metrics of every model and seed with intervals, and the comparison of all of them."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from mmlens.evaluation.answers import compare_answers, evaluate_answers
from mmlens.evaluation.classification import compare, evaluate
from mmlens.files import write_json
from mmlens.table import answer_names, read_runs, read_samples, write_csv

params, inputs, output = snakemake.params, snakemake.input, snakemake.output
runs = [(model, seed) for model in params.models for seed in params.seeds]
predictions = read_runs(inputs.predictions, params.models, params.seeds)
samples = read_samples(inputs.samples)
names = answer_names(samples, inputs.classes)
# Both tasks have the same two functions; that of answers needs their names.
one, all_of_them, own = evaluate, compare, ()
if names is not None:
    one, all_of_them, own = evaluate_answers, compare_answers, (names,)
results = {}
for (model, seed), path in zip(runs, output.metrics, strict=True):
    chosen = predictions[(predictions["model"] == model) & (predictions["seed"] == seed)]
    results[model, seed] = one(chosen, samples, *own, **params.statistics)
    write_json(path, results[model, seed], indent=1)
write_csv(output.comparison, all_of_them(results, predictions, samples, *own, **params.statistics))
