"""Perturbation curves and their area, per sample and as a table with intervals."""

import numpy as np
import pandas as pd

from ..evaluation.statistics import mean_interval
from ..evaluation.subsets import prediction_subsets

SCORES = ("accuracy", "probability", "logit")

KEYS = ["method", "modality", "direction", "operator", "protocol"]


def area_under_curve(fractions, scores):
    """Area under a perturbation curve by trapezoids, times 100.

    fractions : (S,) rising from 0 to 1; scores : (..., S). Returns (...).
    """
    return 100 * np.trapezoid(scores, np.asarray(fractions, float), axis=-1)


def sample_areas(perturbation):
    """One row per sample and key, one column per score, with the area under its curve."""
    fractions = np.sort(perturbation["fraction"].unique())
    ordered = perturbation.sort_values(["sample_id", *KEYS, "fraction"], kind="stable")
    curves = ordered[list(SCORES)].to_numpy().reshape(-1, len(fractions), len(SCORES))
    areas = area_under_curve(fractions, curves.swapaxes(1, 2))
    return pd.concat(
        [
            ordered[["sample_id", *KEYS]].iloc[:: len(fractions)].reset_index(drop=True),
            pd.DataFrame(areas, columns=list(SCORES)),
        ],
        axis=1,
    )


def tabulate_auc(perturbation, attributions, samples, *, resamples, seed):
    """Table of mean areas with cluster-bootstrap 95% intervals.

    Parameters
    ----------
    perturbation : DataFrame of `engine.perturb` with columns model and seed
    attributions : DataFrame of `explain` with columns model and seed (for predictions and flags)
    samples : DataFrame, the samples table

    Returns
    -------
    DataFrame: model, seed, method, modality, direction, operator, protocol, score, subset, auc,
    auc_low, auc_high, n, flagged (samples whose map was constant, so that its order is random)
    """
    rows = []
    for (model, training_seed), runs in perturbation.groupby(["model", "seed"], sort=False):
        own = attributions[
            (attributions["model"] == model) & (attributions["seed"] == training_seed)
        ]
        target = own.drop_duplicates("sample_id").set_index("sample_id")["target"]
        areas = sample_areas(runs).join(samples.set_index("sample_id"), on="sample_id")
        for keys, part in areas.groupby(KEYS, sort=False):
            named = dict(zip(KEYS, keys, strict=True))
            maps = own[own["method"] == named["method"]]
            constant = maps["flags"].str.contains(f"{named['modality']} constant")
            flagged = part["sample_id"].isin(maps.loc[constant, "sample_id"])
            prediction = part["sample_id"].map(target)
            for subset, mask in prediction_subsets(part, prediction):
                if not mask.any():
                    continue
                values = part.loc[mask, list(SCORES)].to_numpy()
                clusters = part.loc[mask, "cluster_id"]
                means, low, high = mean_interval(values, clusters, resamples, seed)
                for position, score in enumerate(SCORES):
                    rows.append(
                        {
                            "model": model,
                            "seed": training_seed,
                            **named,
                            "score": score,
                            "subset": subset,
                            "auc": means[position],
                            "auc_low": low[position],
                            "auc_high": high[position],
                            "n": int(mask.sum()),
                            "flagged": int(flagged[mask].sum()),
                        }
                    )
    return pd.DataFrame(rows)


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
