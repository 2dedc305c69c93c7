"""ROC curves on the test split."""

import numpy as np
from sklearn.metrics import roc_curve

from ..metrics import as_text, auroc
from .style import colours, label, panels

LINE = 0.17  # inches of a line of the legend


def roc_curves(predictions, samples):
    """One panel per subset (all samples and each stratum), one curve per model and seed.

    predictions : DataFrame of all predictions with columns model and seed
    samples : DataFrame, the samples table
    """
    test = predictions[predictions["split"] == "test"]
    groups = {"all": np.ones(len(test), bool)}
    if "group_stratum" in samples:
        stratum = test["sample_id"].map(samples.set_index("sample_id")["group_stratum"])
        groups |= {value: (stratum == value).to_numpy() for value in sorted(stratum.unique())}
    models = list(dict.fromkeys(test["model"]))
    palette = colours(models)
    figure, axes = panels(len(groups), height=3.8 + LINE * len(models))
    for axis, (name, mask) in zip(axes, groups.items(), strict=True):
        axis.plot([0, 1], [0, 1], color="0.8", linewidth=1)
        for (model, seed), run in test[mask].groupby(["model", "seed"], sort=False):
            first = seed == test["seed"].iat[0]
            area = auroc(run["label"], run["logit"])
            x, y, _ = roc_curve(run["label"], run["logit"])
            axis.plot(
                x,
                y,
                "-" if first else "--",
                color=palette[model],
                label=f"{label(model)} {as_text(area, 4)}" if first else None,
            )
        count = int(mask.sum() / test.groupby(["model", "seed"]).ngroups)
        axis.set(
            title=f"{name} (n = {count})",
            xlabel="false positive rate",
            ylabel="true positive rate",
            aspect="equal",
        )
        # Below the panel: inside, many models would hide the curves.
        axis.legend(
            fontsize="x-small",
            title="AUROC, first seed",
            loc="upper center",
            bbox_to_anchor=(0.5, -0.2),
        )
    return figure
