"""Calibration: does a probability of 0.8 come true eight times out of ten?

Of two labels the probability is that of label 1; of answers it is the confidence that the best
answer is right.
"""

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import expit

from ..files import seed_from
from ..metrics import calibration_error
from .classification import with_samples
from .statistics import bootstrap_weights, centred_interval, mean_share

COLUMNS = ("temperature", "ece", "ece_low", "ece_high", "ece_if_calibrated")
COLUMNS += ("ece_scaled", "ece_scaled_low", "ece_scaled_high", "ece_scaled_if_calibrated")
COLUMNS += ("ece_drop", "ece_drop_low", "ece_drop_high")
COLUMNS += ("nll", "nll_scaled", "n", "note")
BINS = ("scaled", "bin", "lower", "upper", "confidence", "share", "share_low", "share_high", "n")
COUNT = 15  # bins of equal width, as in `metrics.calibration_error`
DRAWS = 200  # of outcomes of a calibrated model
NO_BEST = "no best temperature: validation is told without a mistake, or no better than chance"
NOT_DEFINED = "no validation predictions to fit the temperature on; add val to predict.splits"
# Beyond these a probability is 0 or 1, or one half, whatever the logit.
RANGE = (-6.0, 6.0)  # of the logarithm of the temperature


def assess_calibration(predictions, samples, came_true, *, resamples, seed, split="test"):
    """Calibration of one model and seed, before and after temperature scaling.

    One temperature T > 0, fitted on the split val by the likelihood, divides all logits (Guo et al.
    2017, section 4.2); it changes no order of the samples.

    Parameters
    ----------
    predictions : DataFrame of one predictions file
    samples : DataFrame, the samples table
    came_true : Series by sample_id: the label, or the accuracy of the best answer, in [0, 1]

    Returns
    -------
    row : dict of COLUMNS; ece is the expected calibration error with its cluster-bootstrap
        interval (`centred_interval`; T is not fitted again), ece_if_calibrated what it would be on
        average if outcomes came true with just these confidences, which is not 0 with few samples;
        ece_drop the error before minus that after scaling with a paired interval, both resampled
        together; nll the mean negative log-likelihood in nats
    bins : DataFrame of BINS, of the reliability diagram: mean confidence, and the share that came
        true with its interval, per bin that holds samples; scaled says by T or not
    """
    fitted, note = np.nan, NOT_DEFINED
    if split != "val" and {"val"} <= set(predictions["split"]):
        logit, truth, _ = columns(predictions, samples, came_true, "val")
        fitted = fit_temperature(logit, truth)
        inside = RANGE[0] + 0.01 < np.log(fitted) < RANGE[1] - 0.01
        known = inside and likelihood_loss(logit, truth, fitted) > 1e-9
        note = "" if known else NO_BEST
    logit, truth, clusters = columns(predictions, samples, came_true, split)
    weights = bootstrap_weights(clusters, resamples, seed)
    row, bins = {"temperature": fitted, "n": len(logit), "note": note}, []
    errors = []
    for end, temperature in (("", 1.0), ("_scaled", fitted)):
        probability = expit(logit / temperature)
        known = not np.isnan(temperature)
        error = calibration_error(truth, probability) if known else np.nan
        drawn = calibration_error(truth, probability, weights) if known else np.nan
        errors.append((error, drawn))
        row[f"ece{end}"] = error
        row[f"ece{end}_low"], row[f"ece{end}_high"] = centred_interval(error, drawn)
        row[f"ece{end}_if_calibrated"] = chance_error(probability, seed) if known else np.nan
        row[f"nll{end}"] = likelihood_loss(logit, truth, temperature)
        if known:
            found = reliability(probability, truth, clusters)
            bins.append(found.assign(scaled="yes" if end else "no"))
    (raw, drawn), (scaled, drawn_scaled) = errors
    bounds = centred_interval(raw - scaled, drawn - drawn_scaled, least=-1)
    row["ece_drop"] = raw - scaled
    row["ece_drop_low"], row["ece_drop_high"] = bounds
    return {name: row[name] for name in COLUMNS}, pd.concat(bins)[list(BINS)]


def chance_error(probability, seed):
    """Mean calibration error of outcomes that come true with just these probabilities (N,)."""
    rng = np.random.default_rng(seed_from("calibrated", seed))
    drawn = (rng.random((DRAWS, len(probability))) < probability).astype(float)
    return float(np.mean([calibration_error(outcome, probability) for outcome in drawn]))


def columns(predictions, samples, came_true, split):
    """Logits, what came true and clusters (N,) of a split."""
    chosen = with_samples(predictions, samples, split)
    truth = chosen["sample_id"].map(came_true).to_numpy(float)
    return chosen["logit"].to_numpy(float), truth, chosen["cluster_id"]


def fit_temperature(logit, truth):
    """The temperature of the least `likelihood_loss`."""
    found = minimize_scalar(
        lambda log: likelihood_loss(logit, truth, np.exp(log)), bounds=RANGE, method="bounded"
    )
    return float(np.exp(found.x))


def likelihood_loss(logit, truth, temperature):
    """Mean cross-entropy in nats of sigmoid(logit / temperature) and truth in [0, 1]."""
    if np.isnan(temperature):
        return np.nan
    scaled = logit / temperature
    return float(np.mean(np.logaddexp(0, scaled) - truth * scaled))


def reliability(probability, truth, clusters):
    """Rows of BINS without `scaled`; clusters (N,)."""
    member = np.minimum((probability * COUNT).astype(int), COUNT - 1)
    rows = []
    for number in np.unique(member):
        mask = member == number
        share, low, high = mean_share(truth[mask], clusters[mask])
        rows.append(
            {
                "bin": number,
                "lower": number / COUNT,
                "upper": (number + 1) / COUNT,
                "confidence": probability[mask].mean(),
                "share": share,
                "share_low": low,
                "share_high": high,
                "n": int(mask.sum()),
            }
        )
    return pd.DataFrame(rows)
