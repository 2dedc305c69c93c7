"""Seconds and memory of the jobs of a run, from Snakemake's benchmark files."""

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
