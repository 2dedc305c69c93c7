"""Look of all figures, and saving them in both formats."""

import textwrap

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import seaborn as sns

from ..files import atomic

# With their shades of grey.
BASELINES = {
    "random": "0.35",
    "centre_prior": "0.65",
    "token_position": "0.5",
    "patch_variance": "0.75",
    "reversed": "0.2",
}
DISTINCT = 10  # colours of the palette for the colour-blind, which then begins again
MOST_BANDS = 8  # curves whose intervals can be told apart as bands
# Fixed ids and no date: the same figure is the same file.
matplotlib.rcParams["svg.hashsalt"] = "mmlens"
sns.set_theme(context="paper", style="whitegrid", rc={"figure.dpi": 110, "legend.frameon": False})


def colours(names):
    """{name: colour}, no two alike; baselines are grey so that methods stand out."""
    others = [name for name in names if name not in BASELINES]
    kind = "colorblind" if len(others) <= DISTINCT else "husl"
    palette = dict(zip(others, sns.color_palette(kind, len(others)), strict=True))
    return palette | {name: BASELINES[name] for name in names if name in BASELINES}


def lines(names):
    """{name: line style}: baselines are dashed; of more methods than colours can tell apart every
    third one is drawn, dotted and dash-dotted."""
    others = [name for name in names if name not in BASELINES]
    styles = ("-",) if len(others) <= DISTINCT else ("-", ":", "-.")
    return {name: styles[k % len(styles)] for k, name in enumerate(others)} | {
        name: "--" for name in names if name in BASELINES
    }


def label(name):
    """A registry name as words."""
    return name.replace("_", " ")


def seed_count(seeds):
    """How many training seeds a figure is of, in words."""
    return "1 seed" if len(seeds) == 1 else f"{len(seeds)} seeds"


def literal(text):
    """A text from data as matplotlib is to show it: dollar signs would begin a formula."""
    return text.replace("$", r"\$")


def shortened(text, most):
    """A text of at most so many characters, cut with an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def wrapped(text, width=24):
    """A title in lines of at most so many characters, so that it stays over its panel."""
    return literal(textwrap.fill(text, width))


def legend_height(names):
    """Inches that a legend of these names beside the panels takes."""
    return 0.4 + 0.17 * len(names)


def legend_below(figure, handles, names, most=5):
    """A legend below the panels in at most so many columns, in fewer where the figure is narrow."""
    renderer = figure.canvas.get_renderer()
    for columns in range(min(most, len(names)), 0, -1):
        legend = figure.legend(handles, names, loc="outside lower center", ncols=columns)
        if columns == 1 or legend.get_window_extent(renderer).width <= figure.bbox.width:
            break
        legend.remove()


def panels(count, columns=3, width=3.2, height=2.7):
    """A figure with `count` axes in rows of `columns`; unused places stay empty."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(width * columns, height * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[count:]:
        axis.remove()
    return figure, list(axes.flat[:count])


def remark(title, reasons):
    """A figure that says in words why there is nothing to draw.

    reasons : list of str, one line or more each
    """
    lines = [wrapped(reason, 70) for reason in reasons]
    figure, axis = plt.subplots(
        figsize=(5, 0.6 + 0.2 * sum(1 + line.count("\n") for line in lines)), layout="constrained"
    )
    axis.set_axis_off()
    axis.text(0, 0.5, "\n".join(lines), va="center", transform=axis.transAxes)
    figure.suptitle(title)
    return figure


def save(figure, svg, png):
    """Write a figure as SVG and PNG and close it."""
    with atomic(svg) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
    with atomic(png) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    plt.close(figure)
