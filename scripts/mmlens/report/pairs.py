"""What the pairs of methods say of the best one."""

import pandas as pd

COLUMNS = ("model", "seed", "best", "other", "difference", "difference_low", "difference_high")
COLUMNS += ("p_holm", "verdict", "n")


def best_against_others(pairs, modality="image"):
    """The method of lowest mean AUC, most relevant tokens first, against each other method.

    All pairs are in one family, so that choosing the best by the same samples costs nothing.

    Parameters
    ----------
    pairs : DataFrame, the table method_pairs; deletion by the first operator counts

    Returns
    -------
    DataFrame: model, seed, best, other, difference (of AUC, best - other), difference_low,
    difference_high, p_holm, verdict ("better" or "not separable"), n; the nearest others first
    """
    chosen = pairs[
        (pairs["modality"] == modality)
        & (pairs["direction"] == "positive")
        & (pairs["procedure"] == "deletion")
        & (pairs["score"] == "probability")
    ]
    rows = []
    for (model, seed), run in chosen.groupby(["model", "seed"], sort=False):
        run = run[(run[["operator", "protocol"]] == run[["operator", "protocol"]].iloc[0]).all(1)]
        areas = dict(zip(run["method_a"], run["auc_a"], strict=True))
        areas |= dict(zip(run["method_b"], run["auc_b"], strict=True))
        best = min(areas, key=areas.get)
        against = [as_best(row, best) for row in run.itertuples() if best in row]
        rows += [(model, seed, best, *row) for row in sorted(against, key=lambda row: -row[1])]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def as_best(row, best):
    """A pair seen from its better method: what follows `best` in COLUMNS."""
    bounds = (row.difference, row.difference_low, row.difference_high)
    if row.method_b == best:
        bounds = (-row.difference, -row.difference_high, -row.difference_low)
    other = row.method_a if row.method_b == best else row.method_b
    verdict = row.verdict if row.verdict == "not separable" else "better"
    return (other, *bounds, row.p_holm, verdict, row.n)


def pair_findings(against_best, modality="image"):
    """One sentence per model and seed: from which other methods the best one is separable."""
    sentences = []
    for (model, seed, best), rows in against_best.groupby(["model", "seed", "best"], sort=False):
        alike = rows.loc[rows["verdict"] == "not separable", "other"].tolist()
        rest = f"not separable from {', '.join(alike)}" if alike else "better than every other"
        sentences.append(
            f"{model}, seed {seed}, {modality}: the lowest mean AUC is {best}'s; it is {rest} "
            f"(paired, n = {rows['n'].iat[0]})."
        )
    return sentences
