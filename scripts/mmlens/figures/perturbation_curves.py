"""Perturbation curves: probability of the predicted class as tokens are removed."""

import matplotlib.pyplot as plt

from .style import MOST_BANDS, colours, label, legend_height, lines

TITLES = {
    "positive": "positive:\nmost relevant removed first",
    "negative": "negative:\nleast relevant removed first",
}
TOKENS = {"image": "image tokens", "text": "words", "joint": "image tokens and words"}


def perturbation_curves(curves, title, score="probability"):
    """A row per modality and operator, a panel per direction, a curve with its 95% band per method.

    Deletion only: insertion has the same curves, read from their other end. Of more than
    `MOST_BANDS` methods only the random order has a band; the table has all intervals.

    curves : DataFrame of `perturbation.curves.mean_curves`
    """
    curves = curves[curves["procedure"] == "deletion"]
    tests = list(dict.fromkeys(zip(curves["modality"], curves["operator"], strict=True)))
    modalities = list(dict.fromkeys(curves["modality"]))
    tests.sort(key=lambda test: modalities.index(test[0]))
    methods = list(dict.fromkeys(curves["method"]))
    palette, styles = colours(methods), lines(methods)
    figure, axes = plt.subplots(
        len(tests),
        2,
        figsize=(8.5, max(3.3 * len(tests), legend_height(methods))),
        squeeze=False,
        sharex=True,
        sharey="row",
        layout="constrained",
    )
    named = len(set(curves["operator"])) > 1
    for row, (modality, operator) in zip(axes, tests, strict=True):
        of_test = curves[(curves["modality"] == modality) & (curves["operator"] == operator)]
        for axis, direction in zip(row, TITLES, strict=True):
            part = of_test[of_test["direction"] == direction]
            for method in methods:
                line = part[part["method"] == method].sort_values("fraction")
                axis.plot(
                    line["fraction"],
                    line[score],
                    styles[method],
                    marker=".",
                    color=palette[method],
                    label=label(method),
                )
                if len(methods) <= MOST_BANDS or method == "random":
                    axis.fill_between(
                        line["fraction"],
                        line[f"{score}_low"],
                        line[f"{score}_high"],
                        color=palette[method],
                        alpha=0.12,
                        linewidth=0,
                    )
            axis.set(
                title=", ".join([modality, *[label(operator)][:named], TITLES[direction]]),
                xlabel=f"share of {TOKENS[modality]} removed",
            )
        row[0].set_ylabel(f"mean {score} of the\npredicted class")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", fontsize="small")
    figure.suptitle(title)
    return figure
