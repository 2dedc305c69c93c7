"""Mean attention of the readout token on patches and words, layer by layer, by outcome."""

import matplotlib.pyplot as plt
import numpy as np

from .style import remark, wrapped

WORDS = 20  # places of words that are drawn, at most
LAYERS = 6  # layers whose maps over patches are drawn, at most


def mean_attention(maps, title):
    """A column per outcome: the mean map over the patches of each layer, and layers by words.

    Colours have one scale for all outcomes and layers of a modality. Of many layers some are
    drawn, the first and the last among them. A place of a word is drawn where at least a tenth of
    the outcome's texts reach it.

    maps : of `diagnostics.tables.mean_maps`
    """
    if not maps:
        return remark(title, ["not applicable: no attention on patches of a grid, nor on words"])
    outcomes = list(dict.fromkeys(outcome for _, outcome in maps))
    rows = rows_of(maps)
    heights = [
        1.7 if modality == "image" else 0.8 + 0.14 * len(layers) for modality, layers in rows
    ]
    figure, axes = plt.subplots(
        len(rows),
        len(outcomes),
        figsize=(2.1 * len(outcomes) + 1, sum(heights) + 0.7),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    tops = {
        modality: max(means.max() for (own, _), (means, *_) in maps.items() if own == modality)
        for modality, _ in rows
    }
    for number, (row, (modality, layers)) in enumerate(zip(axes, rows, strict=True)):
        for axis, outcome in zip(row, outcomes, strict=True):
            if (modality, outcome) not in maps:
                axis.set_axis_off()
                continue
            means, counts, grid = maps[modality, outcome]
            colours = {"cmap": "inferno", "vmin": 0, "vmax": tops[modality]}
            if modality == "image":
                picture = axis.imshow(means[layers[0]].reshape(grid), **colours)
                axis.set(xticks=[], yticks=[])
            else:
                picture = axis.imshow(means[:, shown(counts)], aspect="auto", **colours)
                axis.set(xlabel="place of the word", yticks=layers)
                axis.set_yticklabels([layer + 1 for layer in layers], fontsize="x-small")
                places = np.arange(0, shown(counts).sum(), 4)
                axis.set_xticks(places, places + 1)
            axis.grid(False)
            if number == 0:
                axis.set_title(f"{outcome}, n = {counts.max()}", fontsize="small")
        name = f"layer {layers[0] + 1}" if modality == "image" else "layer"
        row[0].set_ylabel(name, fontsize="small")
        figure.colorbar(picture, ax=row.tolist(), shrink=0.85, label=f"per {PARTS[modality]}")
    # About ten characters an inch, so that the title stays over a single panel.
    figure.suptitle(wrapped(title, int(10 * figure.get_figwidth())))
    return figure


PARTS = {"image": "patch", "text": "word"}


def rows_of(maps):
    """[(modality, numbers of its layers)] of the rows: one per layer for images, one for texts."""
    depths = {modality: len(means) for (modality, _), (means, *_) in maps.items()}
    rows = []
    if "image" in depths:
        spread = np.linspace(0, depths["image"] - 1, min(LAYERS, depths["image"]))
        rows += [("image", [int(layer)]) for layer in spread.round()]
    if "text" in depths:
        rows.append(("text", list(range(depths["text"]))))
    return rows


def shown(counts):
    """Bool (n,): the first places that a tenth of the samples have, at most WORDS of them."""
    kept = counts >= max(counts) / 10
    return kept & (np.arange(len(counts)) < WORDS)
