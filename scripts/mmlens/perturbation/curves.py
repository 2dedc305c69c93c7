"""Perturbation curves and their area, per sample and as a table with intervals."""

import numpy as np
import pandas as pd

from ..evaluation.statistics import bootstrap_weights, interval, mean_interval
from ..evaluation.subsets import prediction_subsets

SCORES = ("accuracy", "probability", "logit")

KEYS = ["method", "modality", "direction", "operator", "procedure", "protocol"]
AREAS = ["auc", "auc_low", "auc_high", "n", "flagged"]
SKILLS = ["score", "subset", "difference", "difference_low", "difference_high"]
SKILLS += ["skill", "skill_low", "skill_high", "n"]
# Texts of fewer words are a subset of their own: of two words one is half of the text.
SHORT = 4


def area_under_curve(fractions, scores):
    """Area under a perturbation curve by trapezoids, times 100.

    fractions : (S,) rising from 0 to 1; scores : (..., S). Returns (...).
    """
    return 100 * np.trapezoid(scores, np.asarray(fractions, float), axis=-1)


def sample_areas(perturbation):
    """One row per sample and key, one column per score, with the area under its curve.

    Operators come in the order in which they first appear, that of the configuration.
    """
    order = pd.CategoricalDtype(perturbation["operator"].unique(), ordered=True)
    perturbation = perturbation.astype({"operator": order})
    parts = []
    for _, part in perturbation.groupby("procedure", sort=False):  # each has steps of its own
        fractions = np.sort(part["fraction"].unique())
        ordered = part.sort_values(["sample_id", *KEYS, "fraction"], kind="stable")
        curves = ordered[list(SCORES)].to_numpy().reshape(-1, len(fractions), len(SCORES))
        areas = area_under_curve(fractions, curves.swapaxes(1, 2))
        keys = ordered[["sample_id", *KEYS]].iloc[:: len(fractions)].reset_index(drop=True)
        parts.append(pd.concat([keys, pd.DataFrame(areas, columns=list(SCORES))], axis=1))
    return pd.concat(parts, ignore_index=True)


def area_parts(perturbation, attributions, samples, keys):
    """Areas of every model, training seed, key and subset of the samples.

    Yields
    ------
    {model, seed, keys, subset}, DataFrame of `sample_areas` with the columns of the samples table
    and `flagged` (whether the sample's map was constant, so that its order is random)
    """
    for (model, training_seed), runs in perturbation.groupby(["model", "seed"], sort=False):
        own = attributions[
            (attributions["model"] == model) & (attributions["seed"] == training_seed)
        ]
        facts = own.drop_duplicates("sample_id").set_index("sample_id")
        words = facts["words"].map(lambda numbers: len(set(numbers)))
        areas = sample_areas(runs).join(samples.set_index("sample_id"), on="sample_id")
        for values, part in areas.groupby(keys, sort=False, observed=True):
            named = dict(zip(keys, values, strict=True))
            part = part.assign(flagged=is_flagged(part, own))
            prediction = part["sample_id"].map(facts["target"])
            named |= {"model": model, "seed": training_seed}
            subsets = list(prediction_subsets(part, prediction))
            if named["modality"] == "text":
                subsets.append(("short_text", part["sample_id"].map(words) < SHORT))
            for subset, mask in subsets:
                if mask.any():
                    yield named | {"subset": subset}, part[mask]


def is_flagged(areas, attributions):
    """Whether the map behind an area is constant; of both modalities, either of the maps."""
    flagged = pd.Series(False, areas.index)
    for method, modality in set(zip(areas["method"], areas["modality"], strict=True)):
        maps = attributions[attributions["method"] == method]
        constant = maps.loc[constant_maps(maps, modality), "sample_id"]
        chosen = (areas["method"] == method) & (areas["modality"] == modality)
        flagged |= chosen & areas["sample_id"].isin(constant)
    return flagged


def constant_maps(attributions, modality):
    """Which rows of attributions have a constant map; of "joint", of either modality."""
    wanted = "image constant|text constant" if modality == "joint" else f"{modality} constant"
    return attributions["flags"].str.contains(wanted)


def tabulate_auc(perturbation, attributions, samples, *, resamples, seed):
    """Table of mean areas with 95% intervals (`mean_area`).

    Parameters
    ----------
    perturbation : DataFrame of `engine.perturb` with columns model and seed
    attributions : DataFrame of `explain` with columns model and seed (for predictions and flags)
    samples : DataFrame, the samples table

    Returns
    -------
    DataFrame: model, seed, method, modality, direction, operator, procedure, protocol, score,
    subset, auc, auc_low, auc_high, n, flagged (samples whose map was constant, so that its order
    is random)
    """
    rows = []
    for named, part in area_parts(perturbation, attributions, samples, KEYS):
        counts = {"n": len(part), "flagged": int(part["flagged"].sum())}
        for score in SCORES:
            found = mean_area(part[score], part["cluster_id"], score, resamples, seed)
            areas = dict(zip(("auc", "auc_low", "auc_high"), found, strict=True))
            rows.append({**named, "score": score, **areas, **counts})
    return pd.DataFrame(rows, columns=["model", "seed", *KEYS, "score", "subset", *AREAS])


def mean_area(areas, clusters, score, resamples, seed):
    """Mean of the areas (N,) of a score with its 95% interval: (mean, low, high).

    Accuracies and probabilities lie in [0, 1] and have the bounds of a share, since percentiles
    have no width where the model is wrong at every step of all samples; logits have percentiles.
    """
    found = mean_interval(areas / 100, clusters, resamples, seed, share=score != "logit")
    return tuple(100 * value for value in found)


def tabulate_skill(perturbation, attributions, samples, *, resamples, seed):
    """Table of how far orders by relevance are apart, and how far below random ones, deletion only.

    difference : mean over samples of the area of the negative direction minus that of the positive
    one, in points. skill : (random - method) / random, of the mean areas of the positive direction
    on the same samples: 0 as good as a random order, 1 if removal of the first tokens takes all of
    the score; not of logits, which have no zero to be measured from. Intervals: 95%, paired, from
    one cluster bootstrap of the samples. Parameters as of `tabulate_auc`.

    Returns
    -------
    DataFrame: model, seed, method, modality, operator, protocol, score, subset, difference,
    difference_low, difference_high, skill, skill_low, skill_high, n
    """
    deletion = perturbation[perturbation["procedure"] == "deletion"]
    keys = [key for key in KEYS if key not in ("method", "direction", "procedure")]
    rows = []
    for named, part in area_parts(deletion, attributions, samples, keys):
        areas = part.pivot(index="sample_id", columns=["method", "direction"], values=list(SCORES))
        facts = part.drop_duplicates("sample_id").set_index("sample_id")
        for method in part["method"].unique():
            own = areas.loc[:, areas.columns.isin(["random", method], level="method")].dropna()
            # The samples as they are, then their resamples.
            weights = bootstrap_weights(facts["cluster_id"][own.index], resamples, seed)
            weights = np.concatenate([np.ones((1, len(own))), weights])
            means = (weights / weights.sum(1, keepdims=True)) @ own.to_numpy()
            mean = dict(zip(own.columns, means.T, strict=True))
            for score in SCORES:
                positive = mean[score, method, "positive"]
                found = {"difference": mean[score, method, "negative"] - positive}
                random = mean.get((score, "random", "positive"))
                if random is not None and score != "logit":
                    with np.errstate(invalid="ignore", divide="ignore"):
                        found["skill"] = (random - positive) / random
                row = {**named, "method": method, "score": score, "n": len(own)}
                for name, (value, *drawn) in found.items():
                    row[name] = value
                    row[f"{name}_low"], row[f"{name}_high"] = interval(drawn)
                rows.append(row)
    return pd.DataFrame(rows, columns=["model", "seed", "method", *keys, *SKILLS])


def mean_curves(perturbation, samples, *, resamples, seed):
    """Mean curve of every key with its interval, over samples and training seeds.

    Returns
    -------
    DataFrame: the keys, fraction, and for every score its mean, <score>_low and <score>_high
    """
    clusters = samples.set_index("sample_id")["cluster_id"]
    rows = []
    for keys, part in perturbation.groupby([*KEYS, "fraction"], sort=False):
        means, low, high = mean_interval(
            part[list(SCORES)].to_numpy(), part["sample_id"].map(clusters), resamples, seed
        )
        row = dict(zip([*KEYS, "fraction"], keys, strict=True))
        for position, score in enumerate(SCORES):
            row[score] = means[position]
            row[f"{score}_low"], row[f"{score}_high"] = low[position], high[position]
        rows.append(row)
    return pd.DataFrame(rows)
