"""What one model says of all corruptions of all requested samples, as records of single samples."""

import numpy as np
import pandas as pd
import torch

from ..training.predict import prediction_table
from ..training.zero_shot import text_embeddings
from . import CORRUPTIONS, UNREAD

CLEAN = "clean"
COLUMNS = ("sample_id", "corruption", "severity", "level", "logit", "probability", "prediction")
COLUMNS += ("answers_top5", "similarity", "note")


def predict_corrupted(logits_of, corrupter, corruptions, missing, threshold, similarity=None):
    """Predictions for the clean samples and for every corruption and level.

    Parameters
    ----------
    logits_of : function, EncodedSamples -> function, rows -> logits, as `prediction_table` wants it
    corrupter : Corrupter of the samples, which are of one split
    corruptions : {name: levels}, from the mildest to the worst
    missing : {modality, or name of a corruption: why} of what does not apply
    threshold : probability from which on label 1 is predicted; None for answers and classes
    similarity : of `true_similarity`

    Returns
    -------
    DataFrame: COLUMNS. severity counts the levels from 1; 0 is "clean": the image resized, nothing
    else. What does not apply is one record without a sample, its note says why.
    """
    modality = {name: CORRUPTIONS.attribute(name, "modality") for name in corruptions}
    why = {name: missing.get(name, missing.get(modality[name])) for name in corruptions}
    for name, levels in corruptions.items():
        if why[name] is None and modality[name] == "text" and not corrupter.is_read(name, levels):
            why[name] = UNREAD
    frames = [
        pd.DataFrame([{"corruption": name, "severity": 0, "note": reason}])
        for name, reason in why.items()
        if reason is not None
    ]
    conditions = [
        (name, severity, level)
        for name, levels in corruptions.items()
        if why[name] is None
        for severity, level in enumerate(levels, 1)
    ]
    for name, severity, level in [(CLEAN, 0, ""), *conditions]:
        corrupt = corrupter.texts_by if modality.get(name) == "text" else corrupter.images_by
        data = corrupter.images_by() if name == CLEAN else corrupt(name, level)
        (split,) = set(data.samples["split"])
        logits = logits_of(data)(data.split(split))
        said = prediction_table(lambda rows, own=logits: own[rows], data, (split,), threshold)
        known = similarity is not None
        said["similarity"] = similarity(logits.double().numpy()) if known else np.nan
        facts = {"corruption": name, "severity": severity, "level": str(level), "note": ""}
        frames.append(said.assign(**facts))
    return pd.concat(frames, ignore_index=True).reindex(columns=list(COLUMNS))


def true_similarity(model, data, task, device):
    """Function, logits -> similarity (N,) of the true pairs; None where there is no such thing.

    Of classes the pair is the image with the prompt of its class, else the sample's own. It is the
    cosine of a contrastive model, and of classes else the probability that both match.
    """
    labels = data.samples["label"].to_numpy()
    if not (task == "classes" or model.pair_logit):
        return None
    cosines = model.contrastive
    if cosines:
        with torch.no_grad():
            _, scale, bias = text_embeddings(model.eval(), data, device)

    def similarity(logits):
        own = logits[np.arange(len(labels)), labels] if task == "classes" else logits
        return (own - bias) / scale if cosines else 1 / (1 + np.exp(-own))

    return similarity
