"""Tables of the evaluation beyond one metric, as the report shows them."""

import pandas as pd

from ..evaluation.gaps import real_gaps
from ..ranking import RANDOM
from .findings import number, number_cell

MODEL = ["model", "seed"]


def interval_cell(row, name="value", digits=3):
    """`number_cell` of a row with name, low and high."""
    low, high = ("low", "high") if name == "value" else (f"{name}_low", f"{name}_high")
    return number_cell(row[name], row[low], row[high], digits)


def pairs_of_models(pairs):
    """Areas (or accuracies) of all pairs of models, by the test that knows of clusters."""
    test = "delong" if "delong" in set(pairs["test"]) else "permutation"
    own = pairs[pairs["test"] == test]
    shown = own[["seed", "metric", "model_a", "model_b"]].copy()
    shown["difference"] = [interval_cell(row, "difference") for _, row in own.iterrows()]
    return shown.assign(**own[["p_holm", "verdict", "n", "clusters"]])


def seeds_table(seeds):
    """Mean and standard deviation over training seeds: a row per model, a column per metric."""
    whole = seeds[seeds["subset"] == "all"]
    rows = []
    for model, part in whole.groupby("model", sort=False):
        row = {"model": model, "seeds": int(part["seeds"].iat[0])}
        for found in part.itertuples():
            row[found.metric] = (f"{found.mean:.3f} (sd {found.sd:.3f})", found.mean)
        rows.append(row)
    return pd.DataFrame(rows)


def gaps_table(gaps):
    """Gaps between groups, beside those between groups dealt anew to the samples."""
    shown = gaps[[*MODEL, "column", "metric"]].copy()
    shown["gap"] = [interval_cell(row, "gap") for _, row in gaps.iterrows()]
    shown = shown.assign(**gaps[["best", "worst", "p"]])
    shown["shuffled groups"] = [interval_cell(row, "shuffled") for _, row in gaps.iterrows()]
    return shown.assign(**gaps[["p_shuffled", "groups", "n"]])


def calibration_table(calibration):
    """Calibration before and after temperature scaling."""
    shown = calibration[[*MODEL, "temperature"]].copy()
    for name in ("ece", "ece_scaled"):
        shown[name] = [interval_cell(row, name) for _, row in calibration.iterrows()]
        shown[f"{name} if calibrated"] = calibration[f"{name}_if_calibrated"]
    shown["ece drop"] = [interval_cell(row, "ece_drop") for _, row in calibration.iterrows()]
    return shown.assign(
        **calibration[["nll", "nll_scaled", "n"]], note=calibration["note"].fillna("")
    )


def valued(table, keys, digits=3):
    """`keys`, the value with its interval, and what else says what to make of it."""
    shown = table[keys].copy()
    shown["value"] = [interval_cell(row, digits=digits) for _, row in table.iterrows()]
    others = [name for name in ("chance", "shuffled", "groups", "n", "note") if name in table]
    return shown.assign(**table[others])


def checks_table(checks):
    """Every check once: which models fail it, and the number of those that pass."""
    rows = []
    for check, part in checks.groupby("check", sort=False):
        failed = part[part["passed"] == "no"]
        names = [
            "the splits" if pd.isna(row.model) else f"{row.model}, seed {int(row.seed)}"
            for row in failed.itertuples()
        ]
        judged = part["passed"].isin(["yes", "no"]).any()
        values = [f"{value:.6g}" for value in sorted(set(part["value"].dropna()))]
        rows.append(
            {
                "check": check,
                "passed": f"{int((part['passed'] == 'yes').sum())} of {len(part)}"
                if judged
                else "",
                "failed": "; ".join(names),
                "found": ", ".join(values[:4]) + (", ..." if len(values) > 4 else ""),
                "expected": part["expected"].iat[0] if part["expected"].nunique() == 1 else "",
                "note": "; ".join(dict.fromkeys(part["note"].dropna())),
            }
        )
    return pd.DataFrame(rows)


def zero_shot_summary(table):
    """Rows of all classes together; a row per model, control and rule, a column per metric."""
    whole = table[table["category"] == "all"].fillna({"control": "", "rule": ""})
    return by_metric(whole, [*MODEL, "weights", "control", "rule"])


def retrieval_summary(table):
    """A row per model, control and direction, a column per metric."""
    table = table.fillna({"control": "", "ranked_by": ""})
    return by_metric(table, [*MODEL, "weights", "control", "direction", "ranked_by"])


def by_metric(table, keys):
    """Values with intervals; of the first metric also chance, and what shuffled labels give."""
    metrics = list(dict.fromkeys(table["metric"]))
    rows = []
    for names, part in table.groupby(keys, sort=False):
        row = dict(zip(keys, names, strict=True)) | dict.fromkeys(metrics, ("", ""))
        for _, found in part.iterrows():
            row[found["metric"]] = interval_cell(found)
            if pd.notna(found["chance"]) and found["metric"] == part["metric"].iat[0]:
                row[f"chance of {found['metric']}"] = found["chance"]
                if "shuffled" in found:
                    row[f"{found['metric']} shuffled"] = found["shuffled"]
        rows.append(row | {"n": int(part["n"].max())})
    frame = pd.DataFrame(rows)
    return frame[[name for name in frame if name != "n"] + ["n"]]


def robustness_summary(table):
    """The metric that the figure shows at every severity: a row per model and corruption."""
    metric = "auroc" if "auroc" in set(table["metric"]) else "accuracy"
    rows = []
    for (model, seed), own in table.groupby(MODEL, sort=False):
        part = own[(own["metric"] == metric) & (own["severity"] > 0)]
        clean = own[(own["metric"] == metric) & (own["severity"] == 0)]
        facts = {"model": model, "seed": seed}
        facts["clean"] = interval_cell(clean.iloc[0]) if len(clean) else ("", "")
        for corruption, found in part.groupby("corruption", sort=False):
            row = facts | {"corruption": corruption}
            for _, level in found.iterrows():
                row[f"severity {int(level['severity'])}"] = interval_cell(level)
            worst = found.iloc[-1]
            rows.append(row | {"drop at the worst": interval_cell(worst, "drop"), "n": worst["n"]})
        rows += [
            {"model": model, "seed": seed, "corruption": row.corruption, "note": row.note}
            for row in own[own["note"].fillna("") != ""].itertuples()
        ]
    frame = pd.DataFrame(rows)
    severities = sorted(name for name in frame if name.startswith("severity "))
    order = [*MODEL, "corruption", "clean", *severities, "drop at the worst", "n", "note"]
    frame = frame.reindex(columns=[name for name in order if name in frame])
    return frame.apply(
        lambda column: column.map(lambda v: v if isinstance(v, tuple) or pd.notna(v) else "")
    )


def corruption_errors(table):
    """Mean corruption errors, over all corruptions of a modality."""
    chosen = table[table["corruption"] == "all"]
    return valued(chosen, [*MODEL, "modality", "metric"]).drop(columns=["shuffled", "note"])


def reproduction_table(table):
    """Published results of which the run has its own, then the others."""
    measured = table["run_model"].notna()
    ordered = pd.concat([table[measured], table[~measured]])
    scaled = ordered.rename(columns={"value": "here", "low": "here_low", "high": "here_high"})
    names = ["split", "model", "method", "modality", "direction", "metric", "published"]
    shown = ordered[names].fillna("").copy()
    shown["run model"] = ordered["run_model"].fillna("")
    shown["here"] = [interval_cell(row, "here", 2) for _, row in scaled.iterrows()]
    shown["difference"] = ordered["difference"]
    return shown.assign(source=ordered["source"])


# What the report shows of which file: {name of the note: function of the table}.
SHOWN = {
    "model_pairs": {"model_pairs": pairs_of_models},
    "seeds": {"seeds": seeds_table},
    "fairness_gaps": {"gaps": gaps_table},
    "calibration": {"calibration": calibration_table},
    "confounders": {"confounders": lambda table: valued(table, [*MODEL, "kind"])},
    "checks": {"checks": checks_table},
    "vqa": {
        "vqa": lambda table: valued(table.fillna({"control": ""}), [*MODEL, "control", "subset"])
    },
    "zero_shot": {"zero_shot": zero_shot_summary},
    "retrieval": {"retrieval": retrieval_summary},
    "robustness": {"robustness": robustness_summary, "corruption_errors": corruption_errors},
    "reproduction": {"reproduction": reproduction_table},
}


def evaluation_tables(read):
    """{name of the note: table} of the files that a run has.

    read : {name of the file: DataFrame}; those without rows are left out
    """
    return {
        note: function(table)
        for name, table in read.items()
        for note, function in SHOWN.get(name, {}).items()
        if len(table)
    }


def evaluation_findings(read):
    """Sentences that follow from the tables' intervals; read : as in `evaluation_tables`."""
    sentences = []
    if "zero_shot" in read:
        sentences += zero_shot_findings(read["zero_shot"])
    if "robustness" in read:
        sentences += robustness_findings(read["robustness"])
    gaps = read.get("fairness_gaps", pd.DataFrame())
    if len(gaps):
        own = gaps[gaps["metric"].isin(["auroc_gap", "accuracy_gap"]) & gaps["gap"].notna()]
        real = own[real_gaps(own)]
        parts = [
            f"{row.model}, seed {row.seed}, {row.metric.replace('_', ' ')} by {row.column} "
            f"{number(row.gap, row.gap_low, row.gap_high)} (worst {row.worst})"
            for row in real.nlargest(5, "gap").itertuples()
        ]
        more = "; the widest: " + "; ".join(parts) if parts else ""
        sentences.append(f"Gaps between groups beyond chance: {len(real)} of {len(own)}{more}.")
    checks = read.get("checks", pd.DataFrame())
    judged = checks[checks["passed"].isin(["yes", "no"])] if len(checks) else checks
    if len(judged):
        failed = judged[judged["passed"] == "no"]
        counts = failed.groupby("check", sort=False).size()
        named = "; failed: " + ", ".join(f"{name} ({k})" for name, k in counts.items())
        found = f"{len(judged) - len(failed)} of {len(judged)} checks passed"
        sentences.append(f"{found}{named if len(failed) else ''}.")
    return sentences


def zero_shot_findings(table):
    """One sentence per model and seed: top-1 beside its controls."""
    whole = table[(table["rule"] == "largest") & (table["metric"] == "top1")]
    whole = whole[whole["category"] == "all"].fillna({"control": "its own labels"})
    return [
        f"{model} ({rows['weights'].iat[0]}), seed {seed}: zero-shot top-1 "
        + ", ".join(
            f"{row.control.replace('_', ' ')} {number(row.value, row.low, row.high)}"
            + (f" ({row.shuffled:.3f} with shuffled labels)" if row.control == RANDOM else "")
            for row in rows.itertuples()
        )
        + f"; chance {rows['chance'].iat[0]:.3f}."
        for (model, seed), rows in whole.groupby(MODEL, sort=False)
    ]


def robustness_findings(table):
    """One sentence per model and seed: the corruption that costs most at its worst level."""
    metric = "auroc" if "auroc" in set(table["metric"]) else "accuracy"
    sentences = []
    for (model, seed), own in table[table["metric"] == metric].groupby(MODEL, sort=False):
        worst = own[own["severity"] > 0].nlargest(1, "drop")
        sentences += [
            f"{model}, seed {seed}: costs most, {row.corruption.replace('_', ' ')} at {row.level}: "
            f"{metric} {number(row.value, row.low, row.high)}, a drop of "
            f"{number(row.drop, row.drop_low, row.drop_high)}."
            for row in worst.itertuples()
            if row.drop_low > 0
        ]
    return sentences
