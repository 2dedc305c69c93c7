"""Mean attention of the readout token on patches and words, layer by layer, by outcome."""

import matplotlib.pyplot as plt
import numpy as np

from .style import remark, wrapped

WORDS = 20  # places of words that are drawn, at most
RARE = 0.1  # times the samples of the most frequent outcome
LAYERS = 6  # layers whose maps over patches are drawn, at most


def mean_attention(maps, title):
    """A column per outcome: the mean map over the patches of each layer, and layers by words.

    Colours have one scale for all outcomes and layers of a modality, which ends where the maps of
    rare outcomes may go on: a single sample attends to fewer places than a mean of many. Of many
    layers some are drawn, the first and the last among them. A place of a word is drawn where at
    least a tenth of the outcome's texts reach it.

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
    tops = {modality: top(maps, modality) for modality, _ in rows}
    for number, (row, (modality, layers)) in enumerate(zip(axes, rows, strict=True)):
        for axis, outcome in zip(row, outcomes, strict=True):
            if (modality, outcome) not in maps:
                axis.set_axis_off()
                continue
            means, counts, grid = maps[modality, outcome]
            colours = {"cmap": "inferno", "vmin": 0, "vmax": tops[modality][0]}
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
        scale = {"shrink": 0.85, "extend": tops[modality][1]}
        figure.colorbar(picture, ax=row.tolist(), label=f"per {PARTS[modality]}", **scale)
    # About ten characters an inch, so that the title stays over a single panel.
    figure.suptitle(wrapped(title, int(10 * figure.get_figwidth())))
    return figure


PARTS = {"image": "patch", "text": "word"}


def top(maps, modality):
    """End of the scale, by the outcomes that are not rare, and whether one that is goes beyond."""
    own = [found for (of, _), found in maps.items() if of == modality]
    most = max(counts.max() for _, counts, _ in own)
    end = max(means.max() for means, counts, _ in own if counts.max() >= RARE * most)
    return end, "max" if end < max(means.max() for means, *_ in own) else "neither"


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
