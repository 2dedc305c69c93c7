"""Attention over the layers: one panel per kind of map, heads as points, their mean as a line.

A grey line is the control: the mean of the heads of the network with weights in random order.
"""

from .style import legend_below, panels, remark, wrapped

STYLES = ("-", "--", ":", "-.")  # of the seeds
QUERIES = {"text": "words", "image": "image tokens", "readout": "readout token"}


def entropy_curves(table, title):
    """Normalised entropy per layer; a panel per pair of streams.

    table : DataFrame of `diagnostics.tables.tabulate_attention`, of one model
    """
    return curves(table, ["query", "key"], "{0} reads {1}", "normalised entropy", title)


def cross_modal_curves(table, title):
    """Share of attention on the other modality per layer; a panel per kind of queries.

    Maps whose share could be no other are named, not drawn.
    """
    named = table.assign(rows=table["rows"].map(QUERIES))
    return curves(named, ["rows"], "{0}", "share on the other modality", title)


def curves(table, keys, name, quantity, title):
    """Panels of the values of all samples, one per value of `keys`; `name` is their title."""
    table = table.fillna({"note": "", "control": "", "query": "", "key": ""})
    whole = table[(table["subset"] == "all") & (table["note"] == "")]
    fixed = table[table["note"] != ""].drop_duplicates(["query", "key", "note"])
    remarks = [
        f"{row.query} reads {row.key}: {row.note}" if row.query else row.note
        for row in fixed.itertuples()
    ]
    if whole.empty:
        return remark(title, remarks or ["not applicable: no samples"])
    groups = list(whole.groupby(keys, sort=False))
    figure, axes = panels(len(groups), width=3.4)
    for axis, (values, part) in zip(axes, groups, strict=True):
        for number, (seed, run) in enumerate(part.groupby("seed", sort=False)):
            own, control = run[run["control"] == ""], run[run["control"] != ""]
            heads, mean = own[own["head"] != "mean"], own[own["head"] == "mean"]
            chance = control[control["head"] == "mean"]
            axis.plot(heads["layer"], heads["value"], ".", color="0.5", markersize=4, zorder=1)
            style = STYLES[number % len(STYLES)]
            axis.plot(mean["layer"], mean["value"], style, color="C0", label=f"seed {seed}")
            named = None if number else "random weights"
            axis.plot(chance["layer"], chance["value"], style, color="0.6", zorder=0, label=named)
            axis.fill_between(
                mean["layer"], mean["low"], mean["high"], color="C0", alpha=0.2, linewidth=0
            )
        axis.set(title=wrapped(name.format(*values)), xlabel="layer", ylim=(-0.03, 1.03))
        axis.set_xlim(0.5, part["layer"].max() + 0.5)
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes[0].set_ylabel(quantity)
    handles, labels = axes[0].get_legend_handles_labels()
    legend_below(figure, handles, labels)
    figure.suptitle("\n".join([title, *(wrapped(text, 80) for text in remarks)]), fontsize="medium")
    return figure
