"""Checks of predictions and of the splits: what must hold before any number is believed."""

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from ..files import seed_from
from ..metrics import auroc
from .classification import with_samples
from .statistics import bootstrap_weights, interval, mean_interval

COLUMNS = ("check", "passed", "value", "low", "high", "expected", "n", "note")
MOST_APART = 0.2  # of predicted and true share of label 1 for a reasonable balance
SHUFFLES = 1000


def check_predictions(
    predictions, samples, right=None, constant=None, *, classes=2, resamples, seed, split="test"
):
    """Checks of the predictions of one model and seed.

    Parameters
    ----------
    predictions : DataFrame of one predictions file
    samples : DataFrame, the samples table
    right : Series, accuracy of every sample by its sample_id, of answers and classes; None for two
        labels
    constant : Series, accuracy of the best answer that is always the same, likewise
    classes : number of labels, answers or classes

    Returns
    -------
    DataFrame: COLUMNS; passed is "yes" or "no", value what was found, n the rows looked at
    """
    expected = int(samples["split"].isin(set(predictions["split"])).sum())
    ids = predictions["sample_id"]
    missing = expected - samples["sample_id"].isin(ids).sum()
    wrong = len(predictions) - expected
    outside = ~predictions["probability"].between(0, 1) & predictions["probability"].notna()
    rows = [
        count("no_null_predictions", predictions["prediction"].isna()),
        count("valid_predictions", ~predictions["prediction"].isin(range(classes))),
        count("valid_probability_range", outside),
        count("no_null_probabilities", predictions["probability"].isna()),
        {
            "check": "prediction_count",
            "passed": yes(wrong == 0 and missing == 0 and not ids.duplicated().any()),
            "value": len(predictions),
            "expected": f"{expected}, one per sample",
            "n": len(predictions),
        },
    ]
    chosen = with_samples(predictions, samples, split)
    if right is None:
        rows += of_labels(chosen, resamples, seed)
    else:
        scores = (chosen["sample_id"].map(series) for series in (right, constant))
        rows += of_answers(chosen, *scores, resamples, seed)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def yes(passed):
    return "yes" if passed else "no"


def count(check, bad):
    """A row that passes if no entry of a bool Series is true."""
    found = int(bad.sum())
    return {
        "check": check,
        "passed": yes(not found),
        "value": found,
        "expected": "0",
        "n": len(bad),
    }


def of_labels(chosen, resamples, seed):
    """Checks of a model of two labels: balance, better than chance, and the shuffled control."""
    label, logit = chosen["label"].to_numpy(), chosen["logit"].to_numpy()
    share, true = (chosen["prediction"] == 1).mean(), (label == 1).mean()
    weights = bootstrap_weights(chosen["cluster_id"], resamples, seed)
    low, high = interval(auroc(label, logit, weights))
    area = auroc(label, logit)
    null = shuffled_auroc(label, logit, seed)
    return [
        {
            "check": "class_distribution",
            "passed": yes(0 < share < 1 and abs(share - true) <= MOST_APART),
            "value": share,
            "expected": f"{true:.3f} (labels), at most {MOST_APART} apart",
            "n": len(chosen),
        },
        {
            "check": "better_than_random",
            "passed": yes(low > 0.5),
            "value": area,
            "low": low,
            "high": high,
            "expected": "AUROC, interval above 0.5",
            "n": len(chosen),
        },
        {
            "check": "better_than_shuffled_labels",
            "passed": yes(area > null[2]),
            "value": null[0],
            "low": null[1],
            "high": null[2],
            "expected": "AUROC of the labels above that of 97.5% of their random orders",
            "n": len(chosen),
            "note": f"mean and 95% of {SHUFFLES} orders",
        },
    ]


def shuffled_auroc(label, logit, seed):
    """(mean, 2.5%, 97.5%) of the AUROC when the labels are dealt anew to the samples."""
    positive, ranks = np.asarray(label) == 1, rankdata(logit)
    m, n = positive.sum(), (~positive).sum()
    rng = np.random.default_rng(seed_from("shuffled labels", seed))
    sums = np.array([ranks[rng.permutation(positive)].sum() for _ in range(SHUFFLES)])
    areas = (sums - m * (m + 1) / 2) / (m * n) if m and n else sums * np.nan
    return areas.mean(), *interval(areas)


def of_answers(chosen, right, constant, resamples, seed):
    """Checks of a model of answers or classes: how many it says, and better than always one."""
    said = chosen["prediction"].nunique()
    value, _, _ = mean_interval(right, chosen["cluster_id"], resamples, seed)
    apart, low, high = mean_interval(right - constant, chosen["cluster_id"], resamples, seed)
    return [
        {
            "check": "class_distribution",
            "passed": yes(said > 1),
            "value": said,
            "expected": "more than 1 answer is given",
            "n": len(chosen),
        },
        {
            "check": "better_than_random",
            "passed": yes(low > 0),
            "value": apart,
            "low": low,
            "high": high,
            "expected": "accuracy minus that of always the same answer, interval above 0",
            "n": len(chosen),
            "note": f"accuracy {value:.3f}, of the best constant answer {constant.mean():.3f}",
        },
    ]


def check_leakage(samples, hashes, distance):
    """Checks that nothing of the split test was seen in training or validation.

    Parameters
    ----------
    samples : DataFrame, the samples table
    hashes : {image: perceptual hash as 16 hex digits} of `datasets.images.perceptual_hash`
    distance : of two images, at most so many of 64 bits, that makes them near-duplicates

    Returns
    -------
    DataFrame: COLUMNS; value is the number of test samples concerned. Not judged where nothing is
    trained. Texts that occur in both are not judged either: short ones repeat by chance, and what
    they tell about the label is the audit's text_bound.
    """
    test = samples["split"] == "test"
    seen, test = samples[~test], samples[test]
    rows = []
    for check, column in (("leakage_ids", "sample_id"), ("leakage_images", "image_sha256")):
        known = set(seen[column]) - {""}
        rows.append(count(check, test[column].isin(known)))
    near, note = near_duplicates(seen, test, hashes, distance)
    rows.append(count("leakage_near_duplicate_images", near) | {"note": note})
    shared = test["text"].isin(set(seen["text"]) - {""})
    texts = count("leakage_texts", shared)
    rows.append(texts | {"passed": "", "note": "not judged: see text_bound in audit.csv"})
    if seen.empty:
        rows = [row | {"passed": "", "note": "no other split to compare with"} for row in rows]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def near_duplicates(seen, test, hashes, distance):
    """Which test samples show an image that is nearly one of `seen`, and a note naming the first.

    Images of equal bytes are not counted, they are leakage_images.
    """
    sides = []
    for part in (seen, test):
        images = part[part["image"] != ""].drop_duplicates("image_sha256")
        bits = np.array([int(hashes[image], 16) for image in images["image"]], np.uint64)
        sides.append((images, bits))
    (seen, seen_bits), (shown, shown_bits) = sides
    new = ~shown["image_sha256"].isin(set(seen["image_sha256"])).to_numpy()
    found = {}
    for row, bits in zip(shown[new].itertuples(), shown_bits[new], strict=True):
        apart = np.bitwise_count(seen_bits ^ bits)
        if len(apart) and apart.min() <= distance:
            found[row.image_sha256] = f"{row.image}, {seen['image'].iat[int(apart.argmin())]}"
    first = next(iter(found.values()), None)
    return test["image_sha256"].isin(found), "" if first is None else f"the first: {first}"
