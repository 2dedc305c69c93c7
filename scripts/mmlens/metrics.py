"""Metrics of binary scores, in numpy, with optional sample weights for the bootstrap.

Weights may be a matrix (R, N): then R values are returned, one per row of weights, from one
sorting of the scores. That is what makes a thousand cluster-bootstrap resamples cheap.
"""

import numpy as np


def as_text(value, digits):
    """`value` with so many digits, or with more where it is below 1 and would read as 1.

    What rounds to 0 has no sign.
    """
    text = f"{value:z.{digits}f}"
    while float(text) == 1 > value:
        digits += 1
        text = f"{value:z.{digits}f}"
    return text


def auroc(y_true, y_score, weights=None):
    """Area under the ROC curve: P(score of a positive > score of a negative), ties count half.

    Parameters
    ----------
    y_true : (N,) of 0 and 1; y_score : (N,) floats
    weights : (N,) or (R, N), default ones

    Returns
    -------
    float, or (R,) for a matrix of weights; NaN where a class has no weight.
    """
    y_true, y_score = np.asarray(y_true), np.asarray(y_score)
    weights, single = as_rows(weights, len(y_true))
    order = np.argsort(y_score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(y_score[order]) > 0]) if len(order) else []
    positive = y_true[order] == 1
    ordered = weights[:, order]
    by_score_positive = np.add.reduceat(ordered * positive, starts, axis=1)
    by_score_negative = np.add.reduceat(ordered * ~positive, starts, axis=1)
    below = np.cumsum(by_score_negative, 1) - by_score_negative
    wins = (by_score_positive * (below + by_score_negative / 2)).sum(1)
    total = by_score_positive.sum(1) * by_score_negative.sum(1)
    return unwrap(divide(wins, total), single)


def average_precision(y_true, y_score, weights=None):
    """Average precision: sum over thresholds of (recall step) x precision; shapes as `auroc`."""
    y_true, y_score = np.asarray(y_true), np.asarray(y_score)
    weights, single = as_rows(weights, len(y_true))
    if not len(y_true):
        return unwrap(np.full(len(weights), np.nan), single)
    order = np.argsort(-y_score, kind="stable")
    last = np.flatnonzero(np.r_[np.diff(-y_score[order]) > 0, True])
    positive = y_true[order] == 1
    ordered = weights[:, order]
    true_positive = np.cumsum(ordered * positive, 1)[:, last]
    predicted = np.cumsum(ordered, 1)[:, last]
    step = np.diff(true_positive, prepend=0, axis=1)
    area = (step * divide(true_positive, predicted, empty=0.0)).sum(1)
    return unwrap(divide(area, true_positive[:, -1]), single)


def confusion(y_true, y_pred, weights=None):
    """Weighted counts tp, fp, fn, tn; each a float or (R,)."""
    y_true, y_pred = np.asarray(y_true) == 1, np.asarray(y_pred) == 1
    weights, single = as_rows(weights, len(y_true))
    cells = {
        "tp": y_true & y_pred,
        "fp": ~y_true & y_pred,
        "fn": y_true & ~y_pred,
        "tn": ~y_true & ~y_pred,
    }
    return {name: unwrap(weights @ cell.astype(float), single) for name, cell in cells.items()}


def threshold_metrics(y_true, y_pred, weights=None):
    """Accuracy, precision, recall, F1 of label 1 and macro F1, from predictions of 0 and 1.

    Precision is 0 where nothing is predicted positive, F1 likewise (as in scikit-learn). Macro F1
    is the mean over both labels, also where only one of them occurs.
    """
    c = confusion(y_true, y_pred, weights)
    tp, fp, fn, tn = c["tp"], c["fp"], c["fn"], c["tn"]
    f1 = divide(2 * tp, 2 * tp + fp + fn, empty=0.0)
    f1_negative = divide(2 * tn, 2 * tn + fp + fn, empty=0.0)
    return {
        "accuracy": divide(tp + tn, tp + fp + fn + tn),
        "precision": divide(tp, tp + fp, empty=0.0),
        "recall": divide(tp, tp + fn, empty=0.0),
        "f1": f1,
        "f1_macro": (f1 + f1_negative) / 2,
    }


def brier(y_true, probability, weights=None):
    """Brier score: mean of (probability - label) squared."""
    weights, single = as_rows(weights, len(y_true))
    squared = (np.asarray(probability) - np.asarray(y_true)) ** 2
    return unwrap(divide(weights @ squared, weights.sum(1)), single)


def calibration_error(y_true, probability, weights=None, bins=15):
    """Expected calibration error of P(label 1) with equal-width bins (Naeini et al. 2015)."""
    y_true, probability = np.asarray(y_true, float), np.asarray(probability, float)
    weights, single = as_rows(weights, len(y_true))
    member = np.minimum((probability * bins).astype(int), bins - 1)
    one_hot = (member[:, None] == np.arange(bins)).astype(float)
    gap = np.abs((weights * (y_true - probability)) @ one_hot)
    return unwrap(divide(gap.sum(1), weights.sum(1)), single)


def choose_threshold(y_true, probability):
    """The threshold of highest accuracy on these (validation) samples; >= means label 1.

    Candidates lie half-way between neighbouring probabilities; of equally good ones the one
    nearest to 0.5 is taken.
    """
    values = np.unique(probability)
    middle = (values[1:] + values[:-1]) / 2
    # Between neighbouring floats the middle rounds to the lower one, which would not separate.
    middle = np.where(middle > values[:-1], middle, values[1:])
    candidates = np.r_[values[0], middle, np.nextafter(values[-1], 2)]
    y_true, probability = np.asarray(y_true), np.asarray(probability)
    order = np.sort(probability[y_true == 1]), np.sort(probability[y_true == 0])
    true_positive = len(order[0]) - np.searchsorted(order[0], candidates, "left")
    true_negative = np.searchsorted(order[1], candidates, "left")
    correct = true_positive + true_negative
    best = candidates[correct == correct.max()]
    return float(best[np.argmin(np.abs(best - 0.5))])


def as_rows(weights, n):
    """Weights as a float matrix (R, N), and whether the caller gave no matrix."""
    weights = np.ones(n) if weights is None else np.asarray(weights, float)
    return (weights[None], True) if weights.ndim == 1 else (weights, False)


def unwrap(values, single):
    return float(values[0]) if single else values


def divide(numerator, denominator, empty=np.nan):
    """numerator / denominator, `empty` where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    filled = np.full(np.broadcast(numerator, denominator).shape, float(empty))
    result = np.divide(numerator, denominator, out=filled, where=denominator != 0)
    return float(result) if result.ndim == 0 else result
