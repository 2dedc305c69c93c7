"""Tables of the report: which rows and columns of the run's tables a reader sees first."""

from dataclasses import dataclass

import pandas as pd

from .findings import headline, number_cell

SHOWN_METRICS = ("auroc", "average_precision", "accuracy", "accuracy_top5")
SHOWN_METRICS += ("f1", "f1_macro", "brier", "ece")


@dataclass
class Shown:
    """A table as shown: title, text under it, column names, rows of (text, sort key) cells, and
    the file that holds all of it."""

    title: str
    note: str
    columns: list
    rows: list
    file: str

    @classmethod
    def of(cls, title, note, frame, file):
        """From a DataFrame; floats get 4 significant digits and sort by value."""
        rows = [[cell(value) for value in row] for row in frame.itertuples(index=False)]
        return cls(title, note, list(frame.columns), rows, file)


def cell(value):
    """(text, sort key) of one value."""
    if isinstance(value, tuple):
        return value
    if isinstance(value, float):
        if pd.isna(value):
            return ("", "")
        # Of so small a p, of an approximation, no digit counts; nothing else comes close to 0.
        return ("< 1e-6" if 0 < value < 1e-6 else f"{value:.4g}", value)
    return (str(value), value)


def with_interval(frame, name, digits=3):
    """Column of `number_cell` from name, name_low and name_high."""
    triples = zip(frame[name], frame[f"{name}_low"], frame[f"{name}_high"], strict=True)
    return [number_cell(*triple, digits) for triple in triples]


def comparison_table(comparison):
    """The metrics of the run's task, of all samples and strata."""
    chosen = comparison[~comparison["subset"].str.contains("=")]
    return metric_table(chosen, SHOWN_METRICS)


def group_table(comparison):
    """AUROC and accuracy per group, as far as the run's task has them."""
    return metric_table(comparison[comparison["subset"].str.contains("=")], ("auroc", "accuracy"))


def metric_table(comparison, metrics):
    """Columns model, seeds, subset, n, and those of `metrics` that there are."""
    shown = comparison[["model", "seeds", "subset", "n"]].copy()
    for metric in metrics:
        if metric in comparison:
            shown[metric] = with_interval(comparison, metric, 4 if metric == "auroc" else 3)
    return shown


def perturbation_table(perturbation, score="probability", subset="all"):
    """Mean AUC with interval: a row per model, seed and method, a column per test."""
    chosen = headline(perturbation)
    chosen = chosen[(chosen["score"] == score) & (chosen["subset"] == subset)].copy()
    chosen["test"] = chosen["modality"] + " " + chosen["direction"]
    chosen["cell"] = with_interval(chosen, "auc", 1)
    tests = [f"{m} {d}" for m in ("image", "text") for d in ("positive", "negative")]
    return pivot(chosen, "test", tests)


def pairs_table(against_best):
    """The best method of every model and seed against each other one (`best_against_others`)."""
    shown = against_best[["model", "seed", "best", "other"]].copy()
    shown["difference"] = with_interval(against_best, "difference", 2)
    return shown.assign(**against_best[["p_holm", "verdict", "n"]])


def localisation_table(localisation, subset="all"):
    """Localisation metrics with interval: a row per model, seed and method.

    Image metrics are by masks, and by boxes in columns of their own, where there are boxes.
    """
    chosen = localisation[localisation["subset"] == subset].copy()
    places = chosen["modality"].where(chosen["truth"] != "box", "box")
    chosen["test"] = places + " " + chosen["metric"]
    named = chosen.rename(columns={"low": "value_low", "high": "value_high"})
    chosen["cell"] = with_interval(named, "value", 2)
    metrics = ("pointing", "mass", "rank", "mask_auc")
    tests = [f"{place} {metric}" for place in ("image", "box", "text") for metric in metrics]
    shown = [test for test in tests if not test.startswith("box") or test in set(chosen["test"])]
    return pivot(chosen, "test", shown)


def pivot(frame, column, names):
    """Rows (model, seed, method, n), one column per value of `column`, in the given order."""
    rows = []
    for (model, seed, method), part in frame.groupby(["model", "seed", "method"], sort=False):
        cells = dict(zip(part[column], part["cell"], strict=True))
        row = {"model": model, "seed": seed, "method": method, "n": int(part["n"].max())}
        rows.append(row | {name: cells.get(name, ("", "")) for name in names})
    return pd.DataFrame(rows, columns=["model", "seed", "method", "n", *names])
