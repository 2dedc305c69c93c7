"""What the tables say, in sentences that follow from their intervals alone."""

import pandas as pd

from ..metrics import as_text


def number(value, low, high, digits=3):
    """A value with its interval as text."""
    return f"{as_text(value, digits)} [{as_text(low, digits)}, {as_text(high, digits)}]"


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


def verdicts(perturbation, comparison, modality="image"):
    """Every method against the random order: deletion, positive direction, score probability.

    A method is better than random if its interval lies wholly below random's, since removing
    what matters first must lower the probability faster.

    Returns
    -------
    DataFrame: model, seed, method, auc, auc_low, auc_high, random_low, verdict, why, n
    """
    chosen = headline(perturbation)
    chosen = chosen[
        (chosen["modality"] == modality)
        & (chosen["direction"] == "positive")
        & (chosen["score"] == "probability")
    ]
    of_all = comparison[comparison["subset"] == "all"].set_index(["model", "seeds"])
    rows = []
    for (model, seed), run in chosen.groupby(["model", "seed"], sort=False):
        random = run[run["method"] == "random"].set_index("subset")
        overall = run[(run["subset"] == "all") & (run["method"] != "random")]
        for row in overall.itertuples():
            low, high = random.loc["all", ["auc_low", "auc_high"]]
            if row.auc_high < low:
                verdict, why = "better than random", ""
            elif row.auc_low > high:
                verdict, why = "worse than random", ""
            else:
                verdict = "not separable"
            if verdict != "better than random":
                own = run[run["method"] == row.method].set_index("subset")
                why = reason(row, own, random, is_chance(of_all, model, seed))
            rows.append(
                {
                    "model": model,
                    "seed": seed,
                    "method": row.method,
                    "auc": row.auc,
                    "auc_low": row.auc_low,
                    "auc_high": row.auc_high,
                    "random_low": low,
                    "verdict": verdict,
                    "why": why,
                    "n": row.n,
                }
            )
    return pd.DataFrame(rows)


def is_chance(of_all, model, seed):
    """Whether a model of two labels is not better than chance.

    of_all : rows of the comparison on all samples, by model and seeds
    """
    if "auroc_low" not in of_all:
        return False
    return not of_all["auroc_low"].get((model, str(seed)), float("nan")) > 0.5


def reason(row, own, random, is_chance):
    """Why a method is not better than random, as far as the tables can tell."""
    if is_chance:
        return "the model is not better than chance, so there is little evidence to find"
    difference = random.loc["all", "auc"] - row.auc
    if row.auc_low > random.loc["all", "auc_high"]:
        return (
            f"mean AUC {-difference:.1f} points above random's, it ranks last what the decision "
            f"needs; {row.flagged} of {row.n} maps are constant"
        )
    if row.flagged > row.n / 5:
        return f"{row.flagged} of {row.n} maps are constant, so that their order is random"
    classes = [s for s in own.index if s.startswith("pred_") and s in random.index]
    better = [s for s in classes if own.loc[s, "auc_high"] < random.loc[s, "auc_low"]]
    if better and len(better) < len(classes):
        names = " and ".join(name.removeprefix("pred_") for name in better)
        return (
            f"better than random for samples predicted {names} only; the other prediction "
            "survives the removal of its evidence"
        )
    side = "below" if difference > 0 else "above"
    return (
        f"mean AUC {abs(difference):.1f} points {side} random's, within the intervals (n = {row.n})"
    )
