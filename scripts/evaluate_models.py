"""Metrics of every model and seed with intervals, and the comparison of all of them."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from mmlens.evaluation.classification import compare, evaluate
from mmlens.files import write_json
from mmlens.table import read_runs, read_samples, write_csv

params, output = snakemake.params, snakemake.output
runs = [(model, seed) for model in params.models for seed in params.seeds]
predictions = read_runs(snakemake.input.predictions, params.models, params.seeds)
samples = read_samples(snakemake.input.samples)
results = {}
for (model, seed), path in zip(runs, output.metrics, strict=True):
    chosen = predictions[(predictions["model"] == model) & (predictions["seed"] == seed)]
    results[model, seed] = evaluate(chosen, samples, **params.statistics)
    write_json(path, results[model, seed], indent=1)
write_csv(output.comparison, compare(results, predictions, samples, **params.statistics))
