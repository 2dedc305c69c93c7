"""Published results beside those of a run."""

import numpy as np
import pandas as pd

KEYS = ("dataset", "split", "label_version", "model", "method", "modality", "direction", "metric")
COLUMNS = (
    *KEYS,
    "published",
    "run_model",
    "run_labels",
    "protocol",
    "seed",
    "value",
    "low",
    "high",
)
COLUMNS += ("difference", "n", "source")


def beside_published(published, settings, measured, labels=""):
    """The published results of a data set, each with what this run measured.

    Parameters
    ----------
    published : DataFrame of resources/published_results.csv: KEYS, value, scale (what a share of
        one is multiplied by there), source
    settings : dict: dataset and split, names in that file; models, {model of the run: its name
        there}
    measured : DataFrame: model, seed, method, modality, direction, metric, value, low, high, n, of
        the tables of this run (`measured_results`), and protocol, of perturbation areas
    labels : versions of the labels of the run's splits, where a data set has several

    Returns
    -------
    DataFrame: COLUMNS; a published result has a row per model of the run and seed that stand for
    its model, or one with empty cells where the run has none. difference is value - published.
    """
    rows = []
    wanted = published[published["dataset"] == settings["dataset"]]
    for result in wanted.to_dict("records"):
        given = {key: result[key] for key in (*KEYS, "source")} | {"published": result["value"]}
        same = result["split"] == settings["split"]
        found = measured[
            (measured["metric"] == result["metric"])
            & (measured["method"] == result["method"])
            & (measured["modality"] == result["modality"])
            & (measured["direction"] == result["direction"])
            & measured["model"].map(settings["models"]).eq(result["model"])
            & same
        ]
        for row in found.to_dict("records"):
            own = {key: row[key] * result["scale"] for key in ("value", "low", "high")}
            facts = {"run_model": row["model"], "seed": row["seed"], "n": row["n"]}
            facts |= {"run_labels": labels, "protocol": row["protocol"]}
            rows.append(given | facts | own | {"difference": own["value"] - result["value"]})
        if not len(found):
            rows.append(given)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def measured_results(tables):
    """Results of a run in the form of `beside_published`, from its tables as far as it has them.

    tables : {name of the table: DataFrame}, of comparison, zero_shot, retrieval and
        perturbation_auc those that there are; results on all samples are taken
    """
    parts = [empty()]
    if "comparison" in tables:
        table = tables["comparison"]
        whole = table[(table["subset"] == "all") & ~table["seeds"].str.contains(" ")]
        for metric in [name.removesuffix("_low") for name in table if name.endswith("_low")]:
            names = {metric: "value", f"{metric}_low": "low", f"{metric}_high": "high"}
            part = whole.rename(columns={**names, "seeds": "seed"})
            parts.append(part.assign(metric=metric))
    if "zero_shot" in tables:
        table = tables["zero_shot"].fillna({"control": "", "rule": ""})
        whole = table[(table["control"] == "") & (table["category"] == "all")]
        names = whole["metric"] + whole["rule"].map(lambda rule: f"_{rule}" if rule else "")
        parts.append(whole.assign(metric=names))
    if "retrieval" in tables:
        table = tables["retrieval"].fillna({"control": ""})
        whole = table[table["control"] == ""]
        parts.append(whole.assign(metric=whole["direction"] + "_" + whole["metric"], direction=""))
    if "perturbation_auc" in tables:
        table = tables["perturbation_auc"]
        whole = table[
            (table["subset"] == "all")
            & (table["score"] == "accuracy")
            & (table["procedure"] == "deletion")
        ]
        names = {"auc": "value", "auc_low": "low", "auc_high": "high"}
        # Areas are percentages already.
        shares = whole.rename(columns=names)
        shares[["value", "low", "high"]] /= 100
        protocol = shares["operator"] + ", protocol " + shares["protocol"]
        parts.append(shares.assign(metric="perturbation_auc", protocol=protocol))
    found = pd.concat([part.reindex(columns=empty().columns) for part in parts])
    words = ["method", "modality", "direction", "protocol"]
    found[words] = found[words].fillna("")
    return found.astype({"seed": str}).reset_index(drop=True)


def empty():
    columns = ("model", "seed", "method", "modality", "direction", "metric", "value", "low", "high")
    return pd.DataFrame(columns=[*columns, "n", "protocol"])


def label_versions(quality):
    """Versions of the labels of each split in the table of quality, in words; "" without any."""
    if "label_version" not in quality:
        return ""
    pairs = zip(quality["split"], quality["label_version"], strict=True)
    return ", ".join(f"{split} {version}" for split, version in pairs)


def read_published(path):
    """resources/published_results.csv, with numbers as floats and empty cells as ""."""
    table = pd.read_csv(path, keep_default_na=False, dtype=str)
    return table.astype({"value": float, "scale": float}).replace({np.nan: ""})
