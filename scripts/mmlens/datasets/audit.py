"""Audit of a data set: how much do text alone, image alone and counts tell about the label?

Balanced labels per text and per image are not enough: a first version of the generated data
showed the claimed colour twice if and only if the claim was true. So the audit also fits what a
model without any binding could learn, and it does so per stratum.
"""

import re

import numpy as np
import pandas as pd
from scipy.sparse import csr_array, hstack
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import MaxAbsScaler

from ..metrics import auroc
from ..table import DataError, task_of

MAX_WITHOUT_BINDING = 0.55
NO_LIMIT = NOT_DEFINED = float("nan")


def audit(samples, truth):
    """Audit table of a samples table.

    Parameters
    ----------
    samples, truth : DataFrames, the samples and the truth table (which may be empty)

    Returns
    -------
    DataFrame: stratum, check, auroc, limit (largest allowed value, NaN where none applies),
    passed (yes, no, or "" without a limit), n. Checks:
    text_bound, image_bound : AUROC of the best possible scorer that sees only the text (only the
        image) of the split test, that is the mean label of its samples with that text;
    words_and_counts : AUROC on test of a logistic regression, fitted on train, on bag of words,
        object counts, and counts of the objects that the text names.
    There are no rows where labels are not binary, or missing: these checks are not defined then.
    """
    rows = []
    binary = task_of(samples) == "binary" and (samples["label"] >= 0).all()
    for stratum, mask in strata(samples) if binary else ():
        chosen = samples[mask]
        test = chosen[chosen["split"] == "test"]
        for check, column in (("text_bound", "text"), ("image_bound", "image_sha256")):
            best = test.groupby(column)["label"].transform("mean")
            rows.append((stratum, check, auroc(test["label"], best), 0.5, len(test)))
        limit = MAX_WITHOUT_BINDING if stratum == "swap" else NO_LIMIT
        rows.append((stratum, "words_and_counts", without_binding(chosen, truth), limit, len(test)))
    table = pd.DataFrame(rows, columns=["stratum", "check", "auroc", "limit", "n"])
    table.insert(4, "passed", np.where(table["auroc"] <= table["limit"] + 1e-9, "yes", "no"))
    table.loc[table["limit"].isna() | table["auroc"].isna(), "passed"] = ""
    return table


def strata(samples):
    yield "all", np.ones(len(samples), bool)
    for value in sorted(samples.get("group_stratum", pd.Series(dtype=str)).unique()):
        yield value, samples["group_stratum"] == value


def without_binding(samples, truth):
    """AUROC on test of a logistic regression on words, object counts and named objects' counts.

    NaN where there is nothing to learn from, or no two classes to learn.
    """
    label, split = samples["label"].to_numpy(), samples["split"].to_numpy()
    train, test = split == "train", split == "test"
    words, of_words = bag(samples["text"], binary=True)
    categories = truth.groupby("sample_id")["category"].agg(" ".join)
    counts, of_counts = bag(categories.reindex(samples["sample_id"], fill_value=""))
    _, in_words, in_counts = np.intersect1d(of_words, of_counts, return_indices=True)
    named = words[:, in_words].multiply(counts[:, in_counts])
    total = csr_array(named.sum(1).reshape(-1, 1))
    features = hstack([words, counts, named, total], format="csr")
    if not features.nnz or not test.any() or len(set(label[train])) < 2:
        return NOT_DEFINED
    features = MaxAbsScaler().fit_transform(features)
    model = LogisticRegression(max_iter=500).fit(features[train], label[train])
    return auroc(label[test], model.decision_function(features[test]))


def bag(texts, binary=False):
    """Sparse (N, words) counts of the words of texts, and the words; there may be none."""
    if not any(re.search(r"\w", text) for text in texts):
        return csr_array((len(texts), 0), dtype=int), np.array([], dtype=str)
    vectorizer = CountVectorizer(binary=binary, token_pattern=r"\w+")
    return vectorizer.fit_transform(texts), vectorizer.get_feature_names_out()


def check(table):
    """DataError if a limit of the audit is exceeded."""
    failed = table[table["passed"] == "no"]
    if len(failed):
        raise DataError(
            "the data set fails its audit, labels leak through one modality or through counts",
            [
                f"stratum {row.stratum}, {row.check}: found AUROC {row.auroc:.4f}, expected at "
                f"most {row.limit:.2f}; correct the data set (dataset.leak for generated data)"
                for row in failed.itertuples()
            ],
        )
