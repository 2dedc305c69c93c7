"""The sanity checks of a run as a reader sees them first."""

import pandas as pd

from .findings import number_cell

# Column: check and measure. Of the cascade its end counts, where every block is random.
CHECKS = {
    "random": ("cascading", "spearman_abs"),
    "other class": ("class_sensitivity", "spearman"),
    "noise": ("stability", "spearman"),
}
SHARES = {
    "text share": ("modality_share", "share"),
    "AUROC": ("emap", "auroc"),
    "AUROC gap": ("emap", "auroc_gap"),
    "accuracy gap": ("emap", "accuracy_gap"),
}


def sanity_table(sanity):
    """A row per model, seed, method and modality; a column per check, and one of undefined maps."""
    of_maps = sanity[sanity["method"].notna()]
    keys = ["model", "seed", "method", "modality"]
    rows = []
    for names, part in of_maps.groupby(keys, sort=False):
        row = dict(zip(keys, names, strict=True)) | {"n": int(part["n"].max())}
        chosen = {name: pick(part, *wanted) for name, wanted in CHECKS.items()}
        row |= {name: cell(found) for name, found in chosen.items()}
        undefined = max(
            (int(found["degenerate"].iat[0]) for found in chosen.values() if len(found)), default=0
        )
        rows.append(row | {"undefined": undefined})
    return pd.DataFrame(rows, columns=[*keys, "n", *CHECKS, "undefined"])


def modality_table(sanity):
    """A row per model and seed with the share of the text, and the gaps to an additive model."""
    whole = sanity[
        sanity["check"].isin(["modality_share", "emap"]) & (sanity["modality"] != "image")
    ]
    rows = []
    for (model, seed), part in whole.groupby(["model", "seed"], sort=False):
        row = {"model": model, "seed": seed, "n": int(part["n"].max())}
        row |= {name: cell(pick(part, *wanted)) for name, wanted in SHARES.items()}
        rows.append(row | {"note": "; ".join(part["note"].dropna().unique())})
    return pd.DataFrame(rows, columns=["model", "seed", "n", *SHARES, "note"])


def pick(rows, check, measure):
    """The row (a frame of one or none) of a check and measure, of its last step."""
    found = rows[(rows["check"] == check) & (rows["measure"] == measure)]
    return found.sort_values("step", kind="stable").tail(1)


def cell(found):
    """`number_cell` of a frame of one row, empty without one."""
    if found.empty:
        return ("", "")
    return number_cell(*found[["value", "low", "high"]].iloc[0], digits=2)
