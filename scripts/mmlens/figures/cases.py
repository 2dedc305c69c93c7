"""Figures of one case: maps over the image and words, and the attention of every layer."""

import matplotlib.pyplot as plt
import numpy as np

from ..explanation.words import merge_pieces
from .relevance import bar_label, bar_words, outline_boxes, read_image, show_image, show_relevance
from .style import label, literal, wrapped

COLUMNS = 5  # panels side by side
BLANK = (300, 300, 3)  # the canvas for boxes of an image that is not given
BAR = 0.13  # inches of a word
MOST = 40  # words that are drawn


def overlay(case):
    """The input and one column per method: its map over the image, its words as bars.

    Of regions the map is drawn twice: blended, and as boxes. Below stands which methods are not
    applicable, and why.

    case : `mmlens.cases.Case`
    """
    names = list(case.maps) or [None]
    columns = min(COLUMNS, 1 + len(names))
    blocks = [names[k : k + columns - 1] for k in range(0, len(names), columns - 1)]
    image, kinds = canvas_of(case), rows_of(case)
    heights = {"map": 1.9, "boxes": 1.9, "words": 0.4 + BAR * min(len(case.tokens), MOST)}
    title = title_of(case, 22 * columns)
    height = len(blocks) * (0.5 + sum(heights[kind] for kind in kinds)) + BAR * title.count("\n")
    figure, axes = plt.subplots(
        len(kinds) * len(blocks),
        columns,
        figsize=(2.1 * columns, height),
        height_ratios=[heights[kind] for kind in kinds] * len(blocks),
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat:
        axis.set_axis_off()
    if kinds[0] == "map":
        show_image(axes[0, 0], image)
    for number, block in enumerate(blocks):
        for column, name in enumerate(block, 1):
            if name is not None:
                own = axes[number * len(kinds) : (number + 1) * len(kinds), column]
                own[0].set_title(label(name), fontsize=8)
                draw_method(dict(zip(kinds, own, strict=True)), case, name, image)
    figure.suptitle(title, fontsize=8)
    figure.supxlabel(missing_of(case, 28 * columns), fontsize=6)
    return figure


def draw_method(axes, case, name, image):
    """Draw the maps of a method; axes : {kind of row: axis}."""
    maps = case.maps[name]
    if "map" in axes:
        show_relevance(axes["map"], image, maps["image"], case.grid, case.boxes)
    if "boxes" in axes:
        show_image(axes["boxes"], image)
        outline_boxes(axes["boxes"], image, maps["image"], case.boxes)
    if "words" in axes and case.tokens:
        axes["words"].set_axis_on()
        bar_words(axes["words"], *case.of_words(name), MOST)
    if case.flags[name]:
        next(iter(axes.values())).set_title(f"{label(name)}\n({case.flags[name]})", fontsize=6)


def layers(case):
    """Raw attention of every layer: over the image, each scaled by itself, and on the words.

    case : `mmlens.cases.Case`
    """
    image = canvas_of(case)
    shown = len(case.layers["image"]) if image is not None and "image" in case.layers else 0
    if not shown and not ("text" in case.layers and case.tokens):
        why = case.not_applicable.get("layers", "there is neither an image nor a word")
        figure = plt.figure(figsize=(4, 0.8), layout="constrained")
        text = wrapped(f"layers: not applicable: {why}", 60)
        figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=8)
        return figure
    columns = min(COLUMNS + 1, max(shown, 3))
    pictures = -(-shown // columns)
    words = "text" in case.layers and len(case.tokens) > 0
    depth = 0.9 + BAR * len(case.layers["text"]) if words else 0
    heights = [1.8] * pictures + [depth] * words
    figure = plt.figure(figsize=(1.7 * columns, 0.4 + sum(heights)), layout="constrained")
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    for number in range(shown):
        axis = figure.add_subplot(grid[number // columns, number % columns])
        axis.set_axis_off()
        axis.set_title(f"layer {number}", fontsize=7)
        show_relevance(axis, image, case.layers["image"][number], case.grid, case.boxes)
    if words:
        word_layers(figure.add_subplot(grid[pictures, :]), case)
    figure.suptitle("attention of the token that is read", fontsize=8)
    return figure


def word_layers(axis, case):
    """Attention on every word, the sum over its pieces, in every layer."""
    merged = [merge_pieces(case.tokens, values, case.words) for values in case.layers["text"]]
    words = merged[0][0]
    axis.imshow(np.stack([values for _, values in merged]), cmap="inferno", aspect="auto")
    axis.grid(False)
    turned = {"rotation": 90} if len(words) > 12 else {}
    axis.set_xticks(range(len(words)), [bar_label(word) for word in words], fontsize=6, **turned)
    axis.set_yticks(range(len(merged)))
    axis.tick_params(axis="y", labelsize=6)
    axis.set_ylabel("layer", fontsize=7)


def missing_of(case, width):
    """Which methods are not applicable, one line per reason."""
    reasons = {}
    for name, why in case.not_applicable.items():
        if name != "layers":
            reasons.setdefault(why, []).append(label(name))
    lines = [f"{', '.join(names)}: not applicable: {why}" for why, names in reasons.items()]
    return "\n".join(wrapped(line, width) for line in lines)


def canvas_of(case):
    """What maps are drawn on: the image, white where there are boxes alone, None without any."""
    image = read_image(case.image)
    return np.full(BLANK, 255, np.uint8) if image is None and len(case.boxes) else image


def rows_of(case):
    """Kinds of rows of the figure, by what the model reads."""
    pictures = ["map"] if case.grid[0] or len(case.boxes) else []
    pictures += ["boxes"] if len(case.boxes) and not case.grid[0] else []
    words = ["words"] if case.tokens or not pictures else []
    return pictures + words


def title_of(case, width):
    """What the model says, and what is explained, in lines of at most so many characters."""
    text = f"\N{LEFT DOUBLE QUOTATION MARK}{case.text}\N{RIGHT DOUBLE QUOTATION MARK}\n"
    said = f"says {case.prediction}; explained: {case.target}, p = {case.probability:.3g}"
    return (wrapped(text, width) + "\n" if case.text and case.tokens else "") + literal(said)
