"""Tables of the diagnostics with intervals, per subset; and mean maps per outcome."""

import numpy as np
import pandas as pd

from ..evaluation.statistics import mean_interval
from .depth import decision_depth
from .outcomes import OUTCOMES, outcome_subsets

RUN = ["model", "seed"]
MAP = ["query", "key", "layer"]
VALUES = ["subset", "value", "low", "high", "n"]
COLUMNS = {
    "entropy": [*RUN, "control", *MAP, "head", *VALUES, "note"],
    "cross_modal_mass": [*RUN, "control", "rows", *MAP, "head", *VALUES, "note"],
}
LENS = [*RUN, "readout", "measure", "layer", "layers", *VALUES, "note"]
DEPTH = [*RUN, "readout", "layers", *VALUES, "never", "note"]
ABSENT = "not applicable"  # how notes begin that say why there is no value
LENS_MEASURES = ("logit", "divergence", "agreement")


def tabulate_attention(records, samples, measure, *, resamples, seed):
    """Entropy or cross-modal mass per map and head with cluster-bootstrap 95% intervals.

    records : DataFrame of `records.diagnose` with columns model and seed
    samples : DataFrame, the samples table
    measure : "entropy" or "cross_modal_mass"

    Returns
    -------
    DataFrame: model, seed, control (of `records.diagnose`), (rows,) query, key, layer, head (from
    1, or "mean" of all), subset, value, low, high, n, note. What does not apply is one row without
    a value, with the reason.
    """
    rows = []
    for names, part in groups(records[records["measure"] == measure], ["control", "rows", *MAP]):
        if names["note"].startswith(ABSENT):
            rows.append(names | {"layer": pd.NA, "n": 0})
            continue
        heads = np.stack(part["values"]).astype(float)
        values = np.column_stack([heads.mean(1), heads])
        for subset, bounds in intervals(part, values, samples, resamples, seed):
            for head, found in enumerate(bounds):
                rows.append(names | {"head": head or "mean", "subset": subset} | found)
    return integers(pd.DataFrame(rows, columns=COLUMNS[measure]), "layer", "n")


def tabulate_lens(records, samples, *, resamples, seed):
    """Logit, divergence and agreement per layer with cluster-bootstrap 95% intervals.

    Returns
    -------
    DataFrame: model, seed, readout, measure, layer (from 1), layers, subset, value, low, high, n,
    note. What does not apply is one row without a value, with the reason.
    """
    rows = []
    own = records[records["measure"].isin(LENS_MEASURES)]
    for names, part in groups(own, ["readout", "measure"]):
        if names["note"].startswith(ABSENT):
            rows.append(names | {"n": 0})
            continue
        values = np.stack(part["values"]).astype(float)
        names["layers"] = values.shape[1]
        for subset, bounds in intervals(part, values, samples, resamples, seed):
            for layer, found in enumerate(bounds, 1):
                rows.append(names | {"layer": layer, "subset": subset} | found)
    return integers(pd.DataFrame(rows, columns=LENS), "layer", "layers", "n")


def tabulate_depth(records, samples, *, resamples, seed):
    """Mean decision depth (`depth.decision_depth`) with cluster-bootstrap 95% intervals.

    Returns
    -------
    DataFrame: model, seed, readout, layers, subset, value (in layers, from 1), low, high, n, never
    (samples whose last layer decides otherwise than the model; they have no depth and are not
    counted in n), note
    """
    rows = []
    for names, part in groups(records[records["measure"] == "agreement"], ["readout"]):
        if names["note"].startswith(ABSENT):
            rows.append(names | {"n": 0, "never": 0})
            continue
        agrees = np.stack(part["values"]).astype(float)
        part, agrees = (rows_of[~np.isnan(agrees).any(1)] for rows_of in (part, agrees))
        names["layers"] = agrees.shape[1]
        depth = decision_depth(agrees == 1)[:, None]
        never = {
            subset: int(np.isnan(depth[mask]).sum()) for subset, mask in subsets_of(part, samples)
        }
        bounds = dict(intervals(part, depth, samples, resamples, seed))
        for subset, count in never.items():
            found = bounds.get(subset, [{"n": 0}])[0]
            rows.append(names | {"subset": subset, "never": count} | found)
    return integers(pd.DataFrame(rows, columns=DEPTH), "layers", "n", "never")


def groups(records, keys):
    """({column: value}, records) of each model, seed, value of `keys` and note, in their order."""
    columns = [*RUN, *keys, "note"]
    for values, part in records.groupby(columns, sort=False):
        yield dict(zip(columns, values, strict=True)), part


def intervals(part, values, samples, resamples, seed):
    """(subset, [{value, low, high, n} of each column]) of values (N, M) of the records `part`.

    Samples that lack a value, such as those without words, are left out.
    """
    exists = ~np.isnan(values).any(1)
    part, values = part[exists], values[exists]
    clusters = clusters_of(part, samples)
    for subset, mask in subsets_of(part, samples):
        if mask.any():
            found = mean_interval(values[mask], clusters[mask], resamples, seed)
            n = int(mask.sum())
            yield (
                subset,
                [
                    {"value": value, "low": low, "high": high, "n": n}
                    for value, low, high in zip(*found, strict=True)
                ],
            )


def subsets_of(part, samples):
    """`outcome_subsets` of records, with masks as arrays."""
    facts = samples.set_index("sample_id")
    columns = [column for column in ("group_stratum",) if column in facts]
    frame = part[["sample_id", "outcome"]].join(facts[columns], on="sample_id")
    return [(subset, mask.to_numpy()) for subset, mask in outcome_subsets(frame)]


def clusters_of(part, samples):
    """Cluster (N,) of every record."""
    return part["sample_id"].map(samples.set_index("sample_id")["cluster_id"]).to_numpy()


def integers(frame, *columns):
    """Columns of whole numbers, of which some may be missing."""
    return frame.astype(dict.fromkeys(columns, "Int64"))


def mean_maps(records):
    """Mean attention of the readout token per modality, outcome and layer.

    records : DataFrame of `records.diagnose` of one model, of one seed or several

    Returns
    -------
    {(modality, outcome): (means (L, n), counts (n,), (rows, columns) of the grid, or None)}, for
    texts by the place of the word, over those texts that have it (counts). Regions without a grid
    have no common place, and no map.
    """
    found = {}
    own = records[(records["measure"] == "attention") & (records["sample_id"] != "")]
    for (modality, rows, columns), part in own.groupby(
        ["key", "grid_rows", "grid_columns"], sort=False
    ):
        grid = (rows, columns) if rows else None
        if modality == "image" and grid is None:
            continue
        for outcome in OUTCOMES:
            layers = part[part["outcome"] == outcome].groupby("layer")["values"]
            means = [by_place(maps) for _, maps in layers]
            if means and len(means[0][0]):
                found[modality, outcome] = (
                    np.stack([values for values, _ in means]),
                    means[0][1],
                    grid,
                )
    return found


def by_place(maps):
    """(means (n,), counts (n,)) over maps of different lengths, by place."""
    padded = np.full((len(maps), max(map(len, maps))), np.nan)
    for row, values in zip(padded, maps, strict=True):
        row[: len(values)] = values
    counts = (~np.isnan(padded)).sum(0)
    return np.nansum(padded, 0) / counts, counts
