"""Confusion matrices on the test split at the threshold chosen on validation."""

import numpy as np
import seaborn as sns

from ..metrics import confusion
from .style import label, panels, wrapped


def confusion_matrices(predictions):
    """One panel per model and seed with counts; colour is the share of the true class.

    predictions : DataFrame of all predictions with columns model and seed
    """
    test = predictions[predictions["split"] == "test"]
    runs = list(test.groupby(["model", "seed"], sort=False))
    figure, axes = panels(len(runs), columns=4, width=2.3, height=2.3)
    for axis, ((model, seed), run) in zip(axes, runs, strict=True):
        c = confusion(run["label"], run["prediction"])
        counts = np.array([[c["tn"], c["fp"]], [c["fn"], c["tp"]]]).astype(int)
        shares = counts / counts.sum(1, keepdims=True).clip(min=1)
        sns.heatmap(
            shares, annot=counts, fmt="d", cmap="Blues", vmin=0, vmax=1, cbar=False, ax=axis,
            square=True,
        )  # fmt: skip
        title = wrapped(f"{label(model)}, seed {seed}")
        axis.set(title=title, xlabel="predicted label", ylabel="true label")
    return figure
