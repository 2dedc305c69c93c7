"""Tables of the diagnostics as the report shows them: all samples, all heads together."""

import pandas as pd

from .findings import number_cell

NOTHING = ("", "")


def diagnostic_tables(read):
    """{name: table} of the files entropy, cross-modal mass, lens and depth; {} without them.

    read : those four as DataFrames, in this order, or none
    """
    if not read:
        return {}
    entropy, cross_modal, lens, depth = (whole(table) for table in read)
    lens = lens[lens["measure"] == "agreement"]
    tables = {
        "entropy": layer_table(entropy, ["control", "query", "key"]),
        "cross_modal": layer_table(cross_modal, ["control", "rows", "query", "key"]),
        "lens": layer_table(lens, ["readout"]),
    }
    depth["mean depth"] = [cell(row) for row in depth.itertuples()]
    columns = ["model", "seed", "readout", "mean depth", "layers", "n", "never", "note"]
    return tables | {"depth": depth[columns]}


def whole(table):
    """The rows of all samples and of the mean over heads, and those of what does not apply."""
    chosen = table[table["subset"].isin(["all"]) | table["subset"].isna()]
    if "head" in table:
        chosen = chosen[chosen["head"].isin(["mean"]) | chosen["head"].isna()]
    words = [name for name in ("note", "control", "rows", "query", "key") if name in table]
    return chosen.fillna(dict.fromkeys(words, "")).reset_index(drop=True)


def layer_table(table, keys):
    """Values with their intervals: a row per model, seed and `keys`, a column per layer."""
    columns = ["model", "seed", *keys]
    layers = sorted(table["layer"].dropna().astype(int).unique())
    rows = []
    for names, part in table.groupby(columns, sort=False):
        cells = {row.layer: cell(row) for row in part.itertuples()}
        row = dict(zip(columns, names, strict=True)) | {"n": int(part["n"].max())}
        row |= {f"layer {layer}": cells.get(layer, NOTHING) for layer in layers}
        rows.append(row | {"note": part["note"].iat[0]})
    return pd.DataFrame(rows)


def cell(row):
    """`number_cell` of a row with value, low and high."""
    return number_cell(row.value, row.low, row.high, 2)
