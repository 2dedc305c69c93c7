"""Audit of a data set: how much do text alone, image alone and counts tell about the label?

Balanced labels per text and per image are not enough: a first version of the generated data
showed the claimed colour twice if and only if the claim was true. So the audit also fits what a
model without any binding could learn, and it does so per stratum.
"""

import json
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
# Each text and each image of a quad of questions has two answers.
MAX_OF_ONE_MODALITY = 0.5
NO_LIMIT = NOT_DEFINED = float("nan")
SCORES = {"auroc": "AUROC", "accuracy": "accuracy"}


def audit(samples, truth):
    """Audit table of a samples table.

    Parameters
    ----------
    samples, truth : DataFrames, the samples and the truth table (which may be empty)

    Returns
    -------
    DataFrame: stratum, check, auroc (for answers accuracy), limit (largest allowed value, NaN where
    none applies), passed (yes, no, or "" without a limit), n. Checks of two labels:
    text_bound, image_bound : AUROC of the best possible scorer that sees only the text (only the
        image) of the split test, that is the mean label of its samples with that text;
    words_and_counts : AUROC on test of a logistic regression, fitted on train, on bag of words,
        object counts, and counts of the objects that the text names.
    Checks of answers:
    text_bound, image_bound : accuracy of the best possible answerer that sees only the text (only
        the image) of the split test, that is the greatest mean soft score of its samples with that
        text;
    words_and_counts : likewise, seeing the text and how often each word names an object of the
        image; only where objects are known.
    There are no rows for classes, or where labels are missing: these checks are not defined then.
    """
    task = task_of(samples)
    score, checks_of = ("accuracy", of_answers) if task == "answers" else ("auroc", of_labels)
    defined = task == "answers" or (task == "binary" and (samples["label"] >= 0).all())
    rows = []
    for stratum, mask in strata(samples) if defined else ():
        chosen = samples[mask]
        count = (chosen["split"] == "test").sum()
        rows += [(stratum, *found, count) for found in checks_of(chosen, truth, stratum)]
    table = pd.DataFrame(rows, columns=["stratum", "check", score, "limit", "n"])
    table.insert(4, "passed", np.where(table[score] <= table["limit"] + 1e-9, "yes", "no"))
    table.loc[table["limit"].isna() | table[score].isna(), "passed"] = ""
    return table


def of_labels(samples, truth, stratum):
    """(check, AUROC, limit) of the samples of a stratum with two labels."""
    test = samples[samples["split"] == "test"]
    for check, column in (("text_bound", "text"), ("image_bound", "image_sha256")):
        best = test.groupby(column)["label"].transform("mean")
        yield check, auroc(test["label"], best), 0.5
    limit = MAX_WITHOUT_BINDING if stratum == "swap" else NO_LIMIT
    yield "words_and_counts", without_binding(samples, truth), limit


def of_answers(samples, truth, _stratum):
    """(check, accuracy, limit) of the samples of a stratum with answers."""
    words = truth.groupby("sample_id")["category"].agg(" ".join)
    words = words.map(lambda text: " ".join(sorted(text.split())))
    test = samples[samples["split"] == "test"]
    test = test.assign(words=words.reindex(test["sample_id"], fill_value="").to_numpy())
    checks = {"text_bound": ["text"], "image_bound": ["image_sha256"]}
    if len(truth):
        checks["words_and_counts"] = ["text", "words"]
    for check, seen in checks.items():
        yield check, best_answers(test, seen), MAX_OF_ONE_MODALITY


def best_answers(samples, seen):
    """Mean soft score of the best answers to samples of which only the columns `seen` are known."""
    if not len(samples):
        return NOT_DEFINED
    given = [
        (*known, answer, score)
        for *known, cell in samples[[*seen, "answers"]].itertuples(index=False)
        for answer, score in json.loads(cell).items()
    ]
    scores = pd.DataFrame(given, columns=[*seen, "answer", "score"])
    totals = scores.groupby([*seen, "answer"])["score"].sum()
    return totals.groupby(level=seen).max().sum() / len(samples)


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
    score = next(name for name in SCORES if name in table)
    if len(failed):
        raise DataError(
            "the data set fails its audit, labels leak through one modality or through counts",
            [
                f"stratum {row['stratum']}, {row['check']}: found {SCORES[score]} "
                f"{row[score]:.4f}, expected at most {row['limit']:.2f}; correct the data set "
                "(dataset.leak for generated data)"
                for row in failed.to_dict("records")
            ],
        )
