"""What the tables say, in sentences that follow from their intervals alone."""

from math import isnan

import pandas as pd

from ..metrics import as_text


def number_cell(value, low, high, digits=3):
    """(`number`, value) for a cell of a table that sorts by value; empty without a value."""
    return ("", "") if isnan(value) else (number(value, low, high, digits), value)


def number(value, low, high, digits=3):
    """A value with its interval as text; of one cluster there is no interval."""
    shown = as_text(value, digits)
    return shown if isnan(low) else f"{shown} [{as_text(low, digits)}, {as_text(high, digits)}]"


ACCURACY = {"answers": "VQA accuracy", "classes": "top-1 accuracy"}


def model_findings(comparison, task):
    """One sentence per model and seed: AUROC against chance, on all samples and per stratum.

    For answers and classes, of which chance is nearly 0, the accuracy.

    task : binary, answers or classes
    """
    if task != "binary":
        return accuracy_findings(comparison, ACCURACY[task])
    sentences = []
    for (model, seeds), rows in comparison.groupby(["model", "seeds"], sort=False):
        shown = rows[~rows["subset"].str.contains("=")]
        parts = [
            f"{row.subset} {number(row.auroc, row.auroc_low, row.auroc_high, 4)}"
            for row in shown.itertuples()
        ]
        overall = shown[shown["subset"] == "all"].iloc[0]
        if overall["auroc_low"] > 0.5:
            verdict = "better than chance"
        elif overall["auroc_high"] < 0.5:
            verdict = "worse than chance"
        elif pd.isna(overall["auroc_low"]):
            verdict = "too few samples for an interval"
        else:
            verdict = "not separable from chance"
        sentences.append(f"{model}, seed {seeds}: test AUROC {', '.join(parts)}; {verdict}.")
    return sentences


def accuracy_findings(comparison, name):
    """One sentence per model and seed: accuracy, called `name`, with its interval."""
    overall = comparison[comparison["subset"] == "all"]
    return [
        f"{row.model}, seed {row.seeds}: {name} "
        f"{number(row.accuracy, row.accuracy_low, row.accuracy_high)} (n = {row.n})."
        for row in overall.itertuples()
    ]


def headline(perturbation):
    """The rows that the report reads: deletion by the first operator of every model and modality.

    That is the first one of the configuration that applies there; others are in the file.
    """
    deletion = perturbation[perturbation["procedure"] == "deletion"]
    of_model = deletion.groupby(["model", "modality"])["operator"]
    return deletion[deletion["operator"] == of_model.transform("first")]


VERDICTS = ("model", "seed", "method", "auc", "random", "difference", "difference_low")
VERDICTS += ("difference_high", "p_holm", "verdict", "why", "n")


def verdicts(perturbation, pairs, comparison, modality="image"):
    """Every method against the random order: deletion, positive direction, score probability.

    Compared sample by sample: a method is better than random where the pair of both is separable
    and its area lower, since removing what matters first must lower the probability faster.

    perturbation, pairs, comparison : the tables perturbation_auc, method_pairs and comparison

    Returns
    -------
    DataFrame: VERDICTS; auc and random are mean areas, difference the first minus the second
    """
    tables = []
    for table in (headline(perturbation), headline(pairs)):
        chosen = table["modality"] == modality
        chosen &= (table["direction"] == "positive") & (table["score"] == "probability")
        tables.append(table[chosen].groupby(["model", "seed"], sort=False))
    areas, compared = tables
    of_all = comparison[comparison["subset"] == "all"].set_index(["model", "seeds"])
    rows = []
    for (model, seed), run in areas:
        if (model, seed) not in compared.groups:  # there is no method but random
            continue
        against = against_random(compared.get_group((model, seed)))
        random = run[run["method"] == "random"].set_index("subset")
        chance = is_chance(of_all, model, seed)
        for method in dict.fromkeys(run["method"]):
            if method == "random":
                continue
            own, pair = run[run["method"] == method].set_index("subset"), against[method]
            why = reason(pair, own, random, chance)
            rows.append({"model": model, "seed": seed, "method": method, **pair, "why": why})
    return pd.DataFrame(rows, columns=list(VERDICTS))


def against_random(pairs):
    """{method: its columns of VERDICTS} of the pairs of a model and seed with the random order."""
    found = {}
    for row in pairs.itertuples():
        if "random" not in (row.method_a, row.method_b):
            continue
        first = row.method_b == "random"
        areas = (row.auc_a, row.auc_b) if first else (row.auc_b, row.auc_a)
        bounds = (row.difference, row.difference_low, row.difference_high)
        if not first:
            bounds = (-row.difference, -row.difference_high, -row.difference_low)
        names = ("auc", "random", "difference", "difference_low", "difference_high")
        verdict = "better than random" if areas[0] < areas[1] else "worse than random"
        found[row.method_a if first else row.method_b] = {
            **dict(zip(names, (*areas, *bounds), strict=True)),
            "p_holm": row.p_holm,
            "verdict": row.verdict if row.verdict == "not separable" else verdict,
            "n": row.n,
        }
    return found


def is_chance(of_all, model, seed):
    """Whether a model of two labels is not better than chance.

    of_all : rows of the comparison on all samples, by model and seeds
    """
    if "auroc_low" not in of_all:
        return False
    return not of_all["auroc_low"].get((model, str(seed)), float("nan")) > 0.5


def reason(pair, own, random, is_chance):
    """Why a method is not better than random, as far as the tables can tell.

    pair : of `against_random`; own, random : rows of the table of areas, by subset
    """
    if pair["verdict"] == "better than random":
        return ""
    flagged = f"{own.loc['all', 'flagged']} of {pair['n']} maps are constant"
    points = f"{abs(pair['difference']):.1f} points"
    if pair["verdict"] == "worse than random":
        return f"{points} above, so it ranks last what the decision needs; {flagged}"
    if is_chance:
        return "the model is not better than chance, so there is little evidence to find"
    if own.loc["all", "flagged"] > pair["n"] / 5:
        return f"{flagged}, so that their order is random"
    classes = [s for s in own.index if s.startswith("pred_") and s in random.index]
    better = [s for s in classes if own.loc[s, "auc_high"] < random.loc[s, "auc_low"]]
    if better and len(better) < len(classes):
        names = " and ".join(name.removeprefix("pred_") for name in better)
        return f"an interval below random's for samples predicted {names} only"
    side = "below" if pair["difference"] < 0 else "above"
    return f"{points} {side}, p = {pair['p_holm']:.2g}"
