"""Model against model on the same samples: DeLong, McNemar and a permutation test, with Holm."""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from .classification import with_samples
from .delong import auroc_covariance, delong_p
from .paired import LEVEL, bca_interval, holm, permutations_for, sign_flip_p

COLUMNS = ("seed", "metric", "test", "model_a", "model_b", "value_a", "value_b", "difference")
COLUMNS += ("difference_low", "difference_high", "p", "p_holm", "verdict", "n", "clusters")


def compare_models(predictions, samples, right=None, *, resamples, seed, split="test"):
    """Every pair of models, for every training seed.

    Tests: delong, areas under the ROC curve by their covariance over clusters (two labels);
    mcnemar, the exact test of the samples that one model alone is right about, which takes samples
    to be independent (where right is 0 or 1); permutation, sign flips of the differences in
    accuracy of whole clusters. The pairs of one seed and test are a family of Holm's correction.

    Parameters
    ----------
    predictions : DataFrame of all predictions with columns model and seed
    samples : DataFrame, the samples table
    right : {(model, seed): Series, accuracy of every sample by its sample_id}, of answers and
        classes; None for two labels

    Returns
    -------
    DataFrame: COLUMNS; difference is a - b, with the interval of DeLong for areas and BCa over
    clusters for accuracies; verdict "A better", "B better" or "not separable" at 5% after Holm
    """
    tables = []
    for training_seed, runs in predictions.groupby("seed", sort=False):
        models = list(dict.fromkeys(runs["model"]))
        joined = {
            model: with_samples(runs[runs["model"] == model], samples, split) for model in models
        }
        first = joined[models[0]]
        clusters, label = first["cluster_id"].to_numpy(), first["label"].to_numpy()
        accuracy = np.stack(
            [
                (own["prediction"].to_numpy() == label).astype(float)
                if right is None
                else right[model, training_seed].loc[own["sample_id"]].to_numpy()
                for model, own in joined.items()
            ]
        )
        pairs = list(combinations(range(len(models)), 2))
        found = accuracy_tests(accuracy, clusters, pairs, resamples, seed)
        if right is None:
            logits = np.stack([own["logit"].to_numpy() for own in joined.values()])
            found = delong_tests(label, logits, clusters, pairs) + found
        facts = {"seed": training_seed, "n": len(label), "clusters": len(set(clusters))}
        for rows in found if pairs else ():
            table = pd.DataFrame(rows).assign(**facts)
            for end, place in (("a", 0), ("b", 1)):
                table[f"model_{end}"] = [models[pair[place]] for pair in pairs]
            tables.append(with_verdicts(table))
    if not tables:
        return pd.DataFrame(columns=list(COLUMNS))
    return pd.concat(tables, ignore_index=True)[list(COLUMNS)]


def delong_tests(label, logits, clusters, pairs):
    """[rows of all pairs]; logits (K, N)."""
    areas, covariance = auroc_covariance(label, logits, clusters)
    rows = []
    for a, b in pairs:
        difference, low, high, p = delong_p(areas, covariance, a, b)
        rows.append(row("auroc", "delong", areas[a], areas[b], difference, low, high, p))
    return [rows]


def accuracy_tests(accuracy, clusters, pairs, resamples, seed):
    """[rows of all pairs] of each test that applies; accuracy (K, N) in [0, 1]."""
    if not pairs:
        return []
    firsts, seconds = np.array(pairs).T
    values = (accuracy[firsts] - accuracy[seconds]).T
    found = bca_interval(values, clusters, resamples, seed)
    tests = {}
    if np.isin(accuracy, (0, 1)).all():
        tests["mcnemar"] = [mcnemar_p(column) for column in values.T]
    tests["permutation"] = sign_flip_p(values, clusters, permutations_for(len(pairs)), seed)
    means = accuracy.mean(1)
    return [
        [
            row("accuracy", test, means[a], means[b], *(part[k] for part in found), p[k])
            for k, (a, b) in enumerate(pairs)
        ]
        for test, p in tests.items()
    ]


def mcnemar_p(differences):
    """Exact two-sided p of McNemar's test; differences (N,) of -1, 0 and 1.

    The samples that one of two models alone is right about are as likely to be the one's as the
    other's (McNemar 1947); 1 where there are none.
    """
    first, second = int((differences > 0).sum()), int((differences < 0).sum())
    return binomtest(first, first + second).pvalue if first + second else 1.0


def row(metric, test, *numbers):
    names = ("value_a", "value_b", "difference", "difference_low", "difference_high", "p")
    return {"metric": metric, "test": test, **dict(zip(names, numbers, strict=True))}


def with_verdicts(table):
    """`table` of one family with p_holm and verdict; p that is not defined takes no part."""
    known = table["p"].notna().to_numpy()
    table["p_holm"] = np.nan
    table.loc[known, "p_holm"] = holm(table.loc[known, "p"])
    better = np.where(table["difference"] > 0, "A better", "B better")
    separable = (table["p_holm"] < LEVEL).to_numpy()
    table["verdict"] = np.where(separable, better, "not separable")
    return table
