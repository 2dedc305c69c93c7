"""VQA accuracy by the type of question and answer, with a control that answers other questions."""

import numpy as np
import pandas as pd

from ..files import seed_from
from .answers import per_sample, score_answer
from .statistics import mean_interval
from .subsets import group_subsets

COLUMNS = ("control", "subset", "value", "low", "high", "n")


def accuracy_by_type(predictions, samples, names, *, resamples, seed):
    """Soft accuracy of one model and seed, on all samples and per value of every group_* column.

    control "shuffled_answers": the model's answers against those of other samples, dealt anew
    within each type of answer, where the samples have types.

    Returns
    -------
    DataFrame: COLUMNS
    """
    chosen = per_sample(predictions, samples, names)
    rng = np.random.default_rng(seed_from("shuffled answers", seed))
    kind = chosen.get("group_answer_type", pd.Series("", chosen.index))
    others = chosen.groupby(kind)["answers"].transform(lambda cells: rng.permutation(cells))
    said = chosen["prediction"]
    dealt = [score_answer(names[k], cell) for k, cell in zip(said, others, strict=True)]
    rows = []
    for control, values in (("", chosen["accuracy"]), ("shuffled_answers", pd.Series(dealt))):
        for name, mask in group_subsets(chosen):
            part = values[mask.to_numpy()]
            clusters = chosen.loc[mask, "cluster_id"]
            value, low, high = mean_interval(part, clusters, resamples, seed, share=True)
            row = {"control": control, "subset": name, "n": len(part)}
            rows.append(row | {"value": value, "low": low, "high": high})
    return pd.DataFrame(rows, columns=list(COLUMNS))
