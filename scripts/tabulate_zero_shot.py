"""Zero-shot classification and retrieval of all models, with their controls."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

import pandas as pd

from mmlens.ranking.tables import retrieval_table, zero_shot_table
from mmlens.table import read_samples, read_table, write_csv

params, inputs, output = snakemake.params, snakemake.input, snakemake.output
samples = read_samples(inputs.samples)
names = read_table(inputs.classes)["name"].tolist()
runs = [(model, seed) for model in params.models for seed in params.seeds]
tables = {output.zero_shot: [], output.retrieval: []}
for (model, seed), path in zip(runs, inputs.records, strict=True):
    records = pd.read_parquet(path)
    found = {
        output.zero_shot: zero_shot_table(records, samples, names, **params.statistics),
        output.retrieval: retrieval_table(
            records, samples, params.first[model], **params.statistics
        ),
    }
    for name, table in found.items():
        facts = {"model": model, "seed": seed, "weights": params.origins[model]}
        for place, (column, value) in enumerate(facts.items()):
            table.insert(place, column, value)
        tables[name].append(table)
for name, parts in tables.items():
    write_csv(name, pd.concat(parts))
