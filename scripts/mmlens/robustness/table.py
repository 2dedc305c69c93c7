"""The robustness table: every corruption and severity against the clean samples."""

import numpy as np
import pandas as pd

from ..evaluation.answers import per_sample
from ..evaluation.statistics import bootstrap_weights, interval, mean_share, share_interval
from ..files import seed_from
from ..metrics import auroc
from ..table import task_of
from . import CORRUPTIONS, UNREAD

COLUMNS = ("corruption", "modality", "severity", "level", "metric", "value", "low", "high")
COLUMNS += ("drop", "drop_low", "drop_high", "shuffled", "n", "note")
SUMMARY = ("mean_corruption_error", "relative_corruption_error")
CLEAN = "clean"
DEALT = ("label_name", "targets", "answers")  # what tells the right answer or class


def robustness_table(records, samples, names, any_present=False, *, resamples, seed):
    """Metrics of one model and training seed under every corruption.

    Parameters
    ----------
    records : DataFrame of `records.predict_corrupted`
    samples : DataFrame, the samples table
    names : its answers or classes
    any_present : as in `evaluation.answers.per_sample`

    Returns
    -------
    DataFrame: COLUMNS. Metrics are accuracy and error (1 - accuracy; of answers the soft accuracy),
    of two labels also auroc, and the similarity of the true pair where there is one. drop is the
    clean value minus this one (of the error, this one minus the clean), with a paired interval:
    both are resampled together. shuffled is what the same predictions get when the labels are dealt
    anew to the samples: of two labels in expectation, else in one order.

    Rows of the two SUMMARY metrics, per modality, are the mean over corruptions of the mean error
    over their severities, and that minus the clean error: Hendrycks & Dietterich (2019, section
    4.2) without dividing by another network's errors. Levels that change nothing, such as a kernel
    of 1, count as they are given, and so do corruptions that a model does not read (`UNREAD`), with
    the clean error: the means of all models are over the same.
    """
    rows, errors = [], {}
    clean = None
    noted = records[records["note"] != ""]
    chosen = records[records["note"] == ""]
    for (corruption, severity), own in chosen.groupby(["corruption", "severity"], sort=False):
        joined = scored(own, samples, names, any_present, seed)
        if clean is None:
            order = joined["sample_id"]
            weights = bootstrap_weights(joined["cluster_id"], resamples, seed)
        if list(joined["sample_id"]) != list(order):
            raise ValueError(f"robustness: {corruption} has other samples than {CLEAN}")
        found = measured(joined, weights)
        clean = clean or found
        facts = {"corruption": corruption, "severity": severity, "level": own["level"].iat[0]}
        facts |= {"modality": modality_of(corruption), "n": len(joined), "note": ""}
        right = mean_share(joined["accuracy"], joined["cluster_id"])
        exact = {"accuracy": right[1:], "error": (1 - right[2], 1 - right[1])}
        for metric, (value, drawn, shuffled) in found.items():
            low, high = exact.get(metric) or interval(drawn)
            row = {"metric": metric, "value": value, "low": low, "high": high}
            row |= drop_of(metric, clean[metric], (value, drawn))
            rows.append(facts | row | {"shuffled": shuffled})
        if corruption != CLEAN:
            errors.setdefault(corruption, []).append(found["error"][:2])
    for corruption in noted.loc[noted["note"] == UNREAD, "corruption"]:
        errors[corruption] = [clean["error"][:2]]
    rows += summary(errors, clean, joined) if errors else []
    rows += [
        {"corruption": row.corruption, "modality": modality_of(row.corruption), "note": row.note}
        for row in noted.itertuples()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def drop_of(metric, clean, corrupted):
    """How much worse a metric got: {drop, drop_low, drop_high}; both : (value, (R,))."""
    better, worse = (corrupted, clean) if metric == "error" else (clean, corrupted)
    low, high = interval(better[1] - worse[1])
    return {"drop": better[0] - worse[0], "drop_low": low, "drop_high": high}


def modality_of(corruption):
    return "" if corruption == CLEAN else CORRUPTIONS.attribute(corruption, "modality")


def scored(own, samples, names, any_present, seed):
    """The samples of one condition with the column accuracy, in the order of the samples table."""
    task = task_of(samples)
    split = samples.set_index("sample_id").loc[own["sample_id"], "split"].iat[0]
    part = samples[samples["sample_id"].isin(own["sample_id"])]
    if task == "binary":
        joined = part.merge(own, on="sample_id", validate="one_to_one")
        return joined.assign(accuracy=(joined["prediction"] == joined["label"]).astype(float))
    predictions = own.assign(split=split, label=-1)
    dealt = part.assign(**{name: shuffled(part[name], seed) for name in DEALT if name in part})
    found = per_sample(predictions, part, names, any_present, split)
    others = per_sample(predictions, dealt, names, any_present, split)
    return found.assign(shuffled=others["accuracy"].to_numpy())


def shuffled(column, seed):
    """The cells of a column dealt anew to its rows; columns of one length alike."""
    order = np.random.default_rng(seed_from("shuffled labels", seed)).permutation(len(column))
    return column.to_numpy()[order]


def measured(joined, weights):
    """{metric: (value, (R,) of the bootstrap, value with shuffled labels)} of one condition."""
    accuracy = joined["accuracy"].to_numpy()
    total = weights.sum(1)
    drawn = weights @ accuracy / total
    label, two_labels = joined["label"].to_numpy(), "shuffled" not in joined
    if two_labels:
        share, said = label.mean(), joined["prediction"].mean()
        guessed = share * said + (1 - share) * (1 - said)
    else:
        guessed = joined["shuffled"].mean()
    found = {
        "accuracy": (accuracy.mean(), drawn, guessed),
        "error": (1 - accuracy.mean(), 1 - drawn, 1 - guessed),
    }
    if two_labels:
        logit = joined["logit"].to_numpy()
        found["auroc"] = (auroc(label, logit), auroc(label, logit, weights), 0.5)
    similarity = joined["similarity"].to_numpy(float)
    if not np.isnan(similarity).all():
        found["similarity"] = (similarity.mean(), weights @ similarity / total, np.nan)
    return found


def summary(errors, clean, samples):
    """Rows of the SUMMARY metrics.

    errors : {corruption: [(error, (R,))] of its severities}
    samples : DataFrame of the N samples
    """
    rows = []
    for modality in dict.fromkeys(map(modality_of, errors)):
        means = [
            (np.mean([value for value, _ in found]), np.mean([drawn for _, drawn in found], 0))
            for corruption, found in errors.items()
            if modality_of(corruption) == modality
        ]
        value, drawn = np.mean([m for m, _ in means]), np.mean([d for _, d in means], 0)
        lower = value - clean["error"][0]
        for metric, own, (low, high) in (
            (SUMMARY[0], value, share_interval(value, samples["cluster_id"], drawn.var())),
            (SUMMARY[1], lower, interval(drawn - clean["error"][1])),
        ):
            row = {"corruption": "all", "modality": modality, "metric": metric, "value": own}
            rows.append(row | {"low": low, "high": high, "n": len(samples), "note": ""})
    return rows
