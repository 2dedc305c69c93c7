"""Perturbation curves: probability of the predicted class as tokens are removed."""

import matplotlib.pyplot as plt

from .style import BASELINES, colours, label

TITLES = {
    "positive": "positive:\nmost relevant removed first",
    "negative": "negative:\nleast relevant removed first",
}
TOKENS = {"image": "image tokens", "text": "words"}


def perturbation_curves(curves, title, score="probability"):
    """Panels of modality x direction, one curve with its 95% band per method.

    curves : DataFrame of `perturbation.curves.mean_curves`
    """
    modalities = list(dict.fromkeys(curves["modality"]))
    methods = list(dict.fromkeys(curves["method"]))
    palette = colours(methods)
    figure, axes = plt.subplots(
        len(modalities),
        2,
        figsize=(8.5, 3.3 * len(modalities)),
        squeeze=False,
        sharex=True,
        sharey="row",
        layout="constrained",
    )
    for row, modality in zip(axes, modalities, strict=True):
        for axis, direction in zip(row, TITLES, strict=True):
            part = curves[(curves["modality"] == modality) & (curves["direction"] == direction)]
            for method in methods:
                line = part[part["method"] == method].sort_values("fraction")
                style = "--" if method in BASELINES else "-"
                axis.plot(
                    line["fraction"],
                    line[score],
                    style,
                    marker=".",
                    color=palette[method],
                    label=label(method),
                )
                axis.fill_between(
                    line["fraction"],
                    line[f"{score}_low"],
                    line[f"{score}_high"],
                    color=palette[method],
                    alpha=0.12,
                    linewidth=0,
                )
            axis.set(
                title=f"{modality}, {TITLES[direction]}",
                xlabel=f"share of {TOKENS[modality]} removed",
            )
        row[0].set_ylabel(f"mean {score} of the\npredicted class")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", fontsize="small")
    figure.suptitle(title)
    return figure
