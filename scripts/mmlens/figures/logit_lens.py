"""Logit lens: what each layer would say, by readout and by what became of the sample."""

import seaborn as sns

from .style import panels, remark

PANELS = {
    "logit": "logit of the predicted class",
    "agreement": "share of decisions like the model's",
    "divergence": "divergence from the model (nats)",
}
# By `diagnostics.outcomes`; right and wrong decisions in colours of their own.
COLOURS = dict(zip(("TP", "TN", "FP", "FN"), ("C0", "C2", "C3", "C1"), strict=True))
COLOURS |= {"right": "C0", "wrong": "C3"}


def logit_lens(table, title):
    """Panels of PANELS with a line per readout, and of the own logit with one per outcome.

    Bands are 95% intervals. Where readouts differ in the number of their layers, the layers are
    drawn as shares of them.

    table : DataFrame of `diagnostics.tables.tabulate_lens`, of one model and seed
    """
    table = table.fillna({"note": "", "readout": ""})
    drawn = table[table["note"] == ""]
    remarks = table[table["note"] != ""].drop_duplicates(["readout", "note"])
    words = [f"{r.readout}: {r.note}" if r.readout else r.note for r in remarks.itertuples()]
    if drawn.empty:
        return remark(title, words or ["not applicable: no samples"])
    shares = drawn["layers"].nunique() > 1
    whole = drawn[drawn["subset"] == "all"]
    readouts = list(dict.fromkeys(drawn["readout"]))
    palette = dict(zip(readouts, sns.color_palette("colorblind", len(readouts)), strict=True))
    figure, axes = panels(len(PANELS) + 1, columns=2, width=3.8)
    for axis, (measure, name) in zip(axes, PANELS.items(), strict=False):
        for readout in readouts:
            part = whole[(whole["measure"] == measure) & (whole["readout"] == readout)]
            line(axis, part, palette[readout], readout, shares)
        axis.set(title=name, xlabel="share of the layers" if shares else "layer")
    axes[1].set_ylim(-0.03, 1.03)
    axes[0].legend(title="readout", fontsize="x-small")
    own = drawn[(drawn["measure"] == "logit") & (drawn["readout"] == readouts[0])]
    for outcome, colour in COLOURS.items():
        part = own[own["subset"] == outcome]
        if len(part):
            line(axes[-1], part, colour, f"{outcome}, n = {part['n'].iat[0]:.0f}", shares)
    axes[-1].set(title=f"logit by outcome, readout {readouts[0]}", xlabel=axes[0].get_xlabel())
    axes[-1].legend(fontsize="x-small")
    figure.suptitle("\n".join([title, *words]), fontsize="medium")
    return figure


def line(axis, part, colour, name, shares):
    """One line with its band."""
    x = part["layer"] / part["layers"] if shares else part["layer"]
    axis.plot(x, part["value"], marker=".", color=colour, label=name)
    axis.fill_between(x, part["low"], part["high"], color=colour, alpha=0.15, linewidth=0)
    if not shares:
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
