"""Which methods could not apply to which models, and why."""

import pandas as pd

COLUMNS = ["model", "method", "why"]


def tabulate_missing(paths, models, seeds):
    """Table of the methods that are not applicable: model, method, why.

    paths : of the attributions of `explain`, of all seeds of the first model, then those of the
        second, ...; models, seeds : their names
    """
    names = [model for model in models for _ in seeds]
    rows = [
        (model, method, why)
        for model, path in zip(names, paths, strict=True)
        for method, why in reasons(path).items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS).drop_duplicates(ignore_index=True)


def reasons(path):
    """{method: why} of one table of attributions."""
    return pd.read_parquet(path, columns=["method"]).attrs.get("not_applicable", {})
