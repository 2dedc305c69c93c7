"""Parameter randomisation: how similar maps stay as more and more of a model is random."""

import matplotlib.pyplot as plt

from .style import MOST_BANDS, colours, label, legend_height, lines, remark

TITLES = {
    "cascading": "from the head down\nto this block",
    "independent": "this block alone",
}


def randomisation_curves(means, title, measure="spearman_abs"):
    """Panels of modality x check, one curve with its 95% band per method; of many without bands.

    means : DataFrame of `sanity_table.mean_values`
    """
    shown = means[means["check"].isin(TITLES) & (means["measure"] == measure)]
    modalities = [m for m in ("image", "text") if m in set(shown["modality"])]
    methods = list(dict.fromkeys(shown["method"]))
    blocks = dict(zip(shown["step"].astype(int), shown["block"], strict=True))
    if not methods:
        return remark(title, ["not applicable: none of the methods applies to the model"])
    palette, styles = colours(methods), lines(methods)
    figure, axes = plt.subplots(
        len(modalities),
        len(TITLES),
        figsize=(9.5, max(3.6 * len(modalities), legend_height(methods))),
        squeeze=False,
        sharex=True,
        sharey=True,
        layout="constrained",
    )
    for row, modality in zip(axes, modalities, strict=True):
        for axis, check in zip(row, TITLES, strict=True):
            part = shown[(shown["modality"] == modality) & (shown["check"] == check)]
            for method in methods:
                line = part[part["method"] == method]
                steps = line["step"].astype(int)
                axis.plot(
                    steps,
                    line["value"],
                    styles[method],
                    marker=".",
                    color=palette[method],
                    label=label(method),
                )
                if len(methods) <= MOST_BANDS:
                    axis.fill_between(
                        steps,
                        line["low"],
                        line["high"],
                        color=palette[method],
                        alpha=0.12,
                        linewidth=0,
                    )
            axis.axhline(0, color="0.6", linewidth=0.8)
            axis.set_title(f"{modality}, random: {TITLES[check]}")
            axis.set_xticks(list(blocks), list(blocks.values()), rotation=35, ha="right")
        row[0].set_ylabel("rank correlation of |maps|\nwith those of the trained model")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", fontsize="small")
    figure.suptitle(title)
    return figure
