"""Metrics per group, with intervals; in how many models there is a gap, in the title."""

from ..evaluation.gaps import real_gaps
from .style import colours, label, legend_below, panels, remark, wrapped

SHOWN = ("auroc", "accuracy")  # the first that there is
MOST = 12  # groups per panel; of more the best and the worst
PER_GROUP = 0.24  # inches


def group_intervals(groups, gaps):
    """One panel per group column: a row per group (with its n), a point with interval per model.

    Of several training seeds the first is shown.

    groups, gaps : DataFrames, the tables fairness and fairness_gaps
    """
    known = groups[groups["value"].notna()]
    # One group alone has nothing to be compared with.
    known = known[known.groupby("column")["group"].transform("nunique") > 1]
    if known.empty:
        why = "no group column" if groups.empty else "no two groups have enough samples"
        return remark("Groups", [f"not applicable: {why}"])
    metric = next(name for name in SHOWN if name in set(known["metric"]))
    known = known[(known["metric"] == metric) & (known["seed"] == known["seed"].iat[0])]
    columns = list(dict.fromkeys(known["column"]))
    models = list(dict.fromkeys(known["model"]))
    palette = colours(models)
    shown = {column: chosen(known[known["column"] == column]) for column in columns}
    tallest = max(map(len, shown.values()))
    height = 1.1 + PER_GROUP * tallest * (1 + len(models) / 6)
    figure, axes = panels(len(columns), width=3.8, height=height)
    for axis, (column, names) in zip(axes, shown.items(), strict=True):
        part = known[known["column"] == column]
        for number, model in enumerate(models):
            own = part[part["model"] == model].set_index("group").reindex(names)
            places = [k + 0.7 * ((number + 0.5) / len(models) - 0.5) for k in range(len(names))]
            errors = [own["value"] - own["low"], own["high"] - own["value"]]
            axis.errorbar(
                own["value"],
                places,
                xerr=[error.clip(lower=0) for error in errors],
                fmt="o",
                markersize=3,
                linewidth=1,
                color=palette[model],
                label=label(model),
            )
        sizes = part.drop_duplicates("group").set_index("group")["n"]
        ticks = [wrapped(f"{name} ({int(sizes[name])})", 20) for name in names]
        axis.set_yticks(range(len(names)), ticks)
        axis.invert_yaxis()
        axis.set(title=wrapped(f"{label(column)}{found_gaps(gaps, column, metric)}", 40))
        axis.set_xlabel(metric.upper() if metric == "auroc" else metric)
    handles, labels = axes[0].get_legend_handles_labels()
    legend_below(figure, handles, labels, most=4)
    return figure


def chosen(part):
    """Names of the groups to show: all, or the best and the worst by the mean of the models."""
    means = part.groupby("group", sort=False)["value"].mean()
    if len(means) <= MOST:
        return list(means.index)
    ordered = means.sort_values(kind="stable")
    half = MOST // 2
    return [*ordered.index[:half], *ordered.index[-half:]]


def found_gaps(gaps, column, metric):
    """ ": a gap in 2 of 7 models", of how many it is beyond chance by both tests (first seed)."""
    own = gaps[(gaps["column"] == column) & (gaps["metric"] == f"{metric}_gap")]
    own = own[(own["seed"] == gaps["seed"].iat[0]) & own["gap"].notna()] if len(gaps) else own
    return f": a gap in {real_gaps(own).sum()} of {len(own)} models" if len(own) else ""
