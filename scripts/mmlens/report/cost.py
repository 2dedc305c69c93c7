"""What the jobs of a run cost, from Snakemake's benchmark files, and what its models cost."""

import json
from pathlib import Path

import pandas as pd


def collect(paths):
    """One row per job: rule, job (model and seed), seconds (wall), cpu_seconds, peak_mb.

    Peak memory is the largest resident set that Snakemake saw; jobs of below a second may have
    been missed by its sampling and then have none.
    """
    rows = []
    for path in map(Path, paths):
        parts = path.with_suffix("").parts
        rule, *job = parts[parts.index("benchmarks") + 1 :]
        measured = pd.read_csv(path, sep="\t", na_values=["-", "NA"]).iloc[-1]
        rows.append(
            {
                "rule": rule,
                "job": " ".join(job),
                "seconds": measured["s"],
                "cpu_seconds": measured["cpu_time"],
                "peak_mb": measured["max_rss"],
            }
        )
    return pd.DataFrame(rows)


def collect_models(paths):
    """One row per model and seed: parameters, trainable, device, ms_per_sample, peak_mb.

    paths : cost.json of checkpoints/<model>/seed<k>/
    """
    columns = ["model", "seed", "parameters", "trainable", "device", "ms_per_sample", "peak_mb"]
    rows = []
    for path in map(Path, paths):
        model, seed = path.parts[-3:-1]
        facts = json.loads(path.read_text(encoding="utf-8"))
        rows.append({"model": model, "seed": seed.removeprefix("seed"), **facts})
    return pd.DataFrame(rows, columns=columns)
