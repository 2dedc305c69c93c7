"""Reliability diagrams: how often what is said with some confidence comes true."""

import pandas as pd

from .style import label, legend_below, panels

STYLES = {"no": ("C3", "as predicted"), "yes": ("C0", "temperature-scaled")}


def reliability_diagrams(bins, calibration):
    """One panel per model, of its first seed; points are bins, their area grows with their samples.

    bins, calibration : DataFrames, the tables reliability and calibration
    """
    first = calibration["seed"].iat[0]
    models = list(dict.fromkeys(calibration["model"]))
    handles = {}
    figure, axes = panels(len(models), columns=4, width=2.7, height=3.0)
    for axis, model in zip(axes, models, strict=True):
        axis.plot([0, 1], [0, 1], color="0.8", linewidth=1)
        row = calibration[(calibration["model"] == model) & (calibration["seed"] == first)].iloc[0]
        own = bins[(bins["model"] == model) & (bins["seed"] == first)]
        for scaled, (colour, name) in STYLES.items():
            part = own[own["scaled"] == scaled]
            if part.empty:
                continue
            spread = [part["share"] - part["share_low"], part["share_high"] - part["share"]]
            axis.errorbar(
                part["confidence"],
                part["share"],
                yerr=[side.clip(lower=0).fillna(0) for side in spread],
                fmt="none",
                ecolor=colour,
                alpha=0.5,
                linewidth=1,
            )
            area = 6 + 60 * part["n"] / row["n"]
            handles[name] = axis.scatter(part["confidence"], part["share"], s=area, color=colour)
        known = pd.notna(row["ece_scaled"])
        scaled = f"scaled {row['ece_scaled']:.3f}" if known else "not scaled"
        errors = f"ECE {row['ece']:.3f}, {scaled}"
        axis.set(title=f"{label(model)}\n{errors}", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        axis.set_aspect("equal")
    axes[0].set(xlabel="confidence", ylabel="share that came true")
    legend_below(figure, handles.values(), handles)
    return figure
