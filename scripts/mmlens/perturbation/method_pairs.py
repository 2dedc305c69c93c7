"""Method A against method B: is one better in a perturbation test, or are they not separable?"""

from itertools import combinations

import numpy as np
import pandas as pd

from ..evaluation.paired import LEVEL, bca_interval, holm, permutations_for, sign_flip_p
from .curves import KEYS, constant_maps, sample_areas

FAMILY = [key for key in KEYS if key not in ("method", "modality")]
GIVEN = ["model", "seed", *FAMILY, "score"]  # what all rows of a family share
COLUMNS = [
    *(*GIVEN, "modality", "method_a", "method_b", "auc_a", "auc_b"),
    *("difference", "difference_low", "difference_high", "p", "p_holm", "verdict"),
    *("n", "clusters", "flagged"),
]
# Where a low area is good: the most relevant tokens are removed first, or brought back last.
LOWER_IS_BETTER = (("positive", "deletion"), ("negative", "insertion"))


def compare_methods(
    perturbation, attributions, samples, *, resamples, seed, scores=("probability",)
):
    """Table of every pair of methods, compared sample by sample.

    A family of Holm's correction is all pairs of methods and modalities of one model, seed,
    direction, operator, procedure, protocol and score.

    Parameters
    ----------
    perturbation : DataFrame of `engine.perturb` with columns model and seed
    attributions : DataFrame of `explain` with columns model and seed (for flags)
    samples : DataFrame, the samples table
    scores : columns of `perturbation` to compare areas of

    Returns
    -------
    DataFrame: model, seed, direction, operator, procedure, protocol, score, modality, method_a,
    method_b, auc_a, auc_b, difference (a - b, mean over samples) with its BCa interval
    difference_low and difference_high, p (sign flips), p_holm, verdict ("A better", "B better",
    "not separable"), n (samples), clusters, flagged (samples where the order of a or of b is
    random, as its map is constant)
    """
    clusters = samples.set_index("sample_id")["cluster_id"]
    tables = []
    for (model, training_seed), runs in perturbation.groupby(["model", "seed"], sort=False):
        own = attributions[
            (attributions["model"] == model) & (attributions["seed"] == training_seed)
        ]
        areas = sample_areas(runs)
        for keys, family in areas.groupby(FAMILY, sort=False, observed=True):
            for score in scores:
                named = dict(zip(GIVEN, (model, training_seed, *keys, score), strict=True))
                found = compare_family(family, score, own, clusters, resamples, seed)
                tables.append(found.assign(**named))
    return pd.concat(tables)[COLUMNS] if tables else pd.DataFrame(columns=COLUMNS)


def compare_family(family, score, attributions, clusters, resamples, seed):
    """Rows of one family: those of COLUMNS that tell its pairs apart, with what was found."""
    by_modality = {
        modality: wide(part, score) for modality, part in family.groupby("modality", sort=False)
    }
    size = sum(len(t.columns) * (len(t.columns) - 1) // 2 for t in by_modality.values())
    permutations = permutations_for(size)
    rows = []
    for modality, areas in by_modality.items():
        pairs = list(combinations(areas.columns, 2))
        if not pairs:
            continue
        firsts, seconds = ([pair[k] for pair in pairs] for k in (0, 1))
        values = areas[firsts].to_numpy() - areas[seconds].to_numpy()
        of_sample = areas.index.map(clusters)
        mean, low, high = bca_interval(values, of_sample, resamples, seed)
        p = sign_flip_p(values, of_sample, permutations, seed)
        random = flagged_samples(attributions, modality)
        for k, (a, b) in enumerate(pairs):
            rows.append(
                {
                    "modality": modality,
                    "method_a": a,
                    "method_b": b,
                    "auc_a": areas[a].mean(),
                    "auc_b": areas[b].mean(),
                    "difference": mean[k],
                    "difference_low": low[k],
                    "difference_high": high[k],
                    "p": p[k],
                    "n": len(areas),
                    "clusters": of_sample.nunique(),
                    "flagged": len(random.get(a, set()) | random.get(b, set())),
                }
            )
    table = pd.DataFrame(rows, columns=[c for c in COLUMNS if c not in GIVEN])
    if len(table):
        table["p_holm"] = holm(table["p"])
        test = (family["direction"].iat[0], family["procedure"].iat[0])
        lower = test in LOWER_IS_BETTER
        table["verdict"] = verdict(table["difference"], table["p_holm"], lower)
    return table


def wide(areas, score):
    """Areas of one test with a row per sample and a column per method, both sorted by name.

    ValueError if a method lacks samples that others have.
    """
    table = areas.pivot(index="sample_id", columns="method", values=score)
    missing = table.isna().sum()
    if missing.any():
        lacking = ", ".join(f"{name} {count}" for name, count in missing[missing > 0].items())
        raise ValueError(
            f"perturbation: of {len(table)} samples there is no area of {lacking}; pairs of "
            "methods are compared on the same samples"
        )
    return table


def flagged_samples(attributions, modality):
    """{method: set of sample_ids whose map of a modality is constant}, see `constant_maps`."""
    constant = constant_maps(attributions, modality)
    return attributions[constant].groupby("method")["sample_id"].agg(set).to_dict()


def verdict(difference, p_holm, lower_is_better):
    """Which method of each pair is better, at 5% after Holm: "A better", "B better" or neither."""
    first = (difference < 0) == lower_is_better
    return np.where(p_holm >= LEVEL, "not separable", np.where(first, "A better", "B better"))
