"""Robustness curves: the metric against the severity of every corruption."""

from .style import colours, label, legend_below, panels, remark

SHOWN = ("auroc", "accuracy")  # the first that there is


def robustness_curves(table):
    """One panel per corruption, a curve with its 95% band per model; severity 0 is clean.

    Of several training seeds the first is shown.

    table : DataFrame, the table robustness
    """
    known = table[table["value"].notna()]
    known = known[known["seed"] == known["seed"].iat[0]]
    metric = next(name for name in SHOWN if name in set(known["metric"]))
    known = known[known["metric"] == metric]
    corruptions = [
        name for name in dict.fromkeys(known["corruption"]) if name not in ("clean", "all")
    ]
    if not corruptions:
        return remark("Robustness", ["not applicable: no corruption applies to the models"])
    models = list(dict.fromkeys(known["model"]))
    palette = colours(models)
    figure, axes = panels(len(corruptions), columns=4, width=2.5, height=2.4)
    for axis, name in zip(axes, corruptions, strict=True):
        part = known[known["corruption"].isin(("clean", name))]
        levels = ["clean"]
        for model in models:
            own = part[part["model"] == model].sort_values("severity")
            if not (own["corruption"] == name).any():
                continue
            levels = ["clean", *own.loc[own["severity"] > 0, "level"].map(shown)]
            axis.plot(own["severity"], own["value"], ".-", color=palette[model], label=label(model))
            axis.fill_between(
                own["severity"],
                own["low"],
                own["high"],
                color=palette[model],
                alpha=0.15,
                linewidth=0,
            )
        axis.set_xticks(range(len(levels)), levels)
        axis.set_title(label(name))
    for axis in axes[::4]:
        axis.set_ylabel(metric.upper() if metric == "auroc" else metric)
    ends = known[["low", "value", "high"]]  # of one cluster there are no bounds
    lowest, highest = ends.min().min(), ends.max().max()
    by_name = {}
    for axis in axes:
        # One scale for all, so that steep means much.
        axis.set_ylim(lowest - 0.02, highest + 0.02)
        by_name |= dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))
    count = f"{int(known['n'].min())}" if known["n"].nunique() == 1 else "different numbers of"
    figure.suptitle(f"{count} samples", fontsize="medium")
    legend_below(figure, by_name.values(), by_name)
    return figure


def shown(level):
    """A level as short as it can be written."""
    return f"{float(level):g}"
