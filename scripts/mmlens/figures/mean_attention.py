"""Mean attention of the readout token on patches and words, by what became of the sample."""

import matplotlib.pyplot as plt
import numpy as np

from .style import remark

WORDS = 20  # places of words that are drawn, at most


def mean_attention(maps, title):
    """A column per outcome: the mean map over the patches, and bars over the places of words.

    Colours and bars have one scale for all outcomes. A place is drawn where at least a tenth of
    the outcome's texts reach it.

    maps : of `diagnostics.tables.mean_maps`
    """
    if not maps:
        return remark(title, ["not applicable: no attention on patches of a grid, nor on words"])
    outcomes = list(dict.fromkeys(outcome for _, outcome in maps))
    modalities = [m for m in ("image", "text") if any(own == m for own, _ in maps)]
    figure, axes = plt.subplots(
        len(modalities),
        len(outcomes),
        figsize=(2.3 * len(outcomes) + 1, 2.2 * len(modalities) + 0.7),
        squeeze=False,
        layout="constrained",
    )
    for row, modality in zip(axes, modalities, strict=True):
        kept = {o: shown(*maps[modality, o][:2]) for o in outcomes if (modality, o) in maps}
        top = max(values.max() for values, _ in kept.values())
        longest = max(len(values) for values, _ in kept.values())
        for axis, outcome in zip(row, outcomes, strict=True):
            if outcome not in kept:
                axis.set_axis_off()
                continue
            values, counts = kept[outcome]
            axis.set_title(f"{outcome}, n = {counts.max()}", fontsize="small")
            if modality == "image":
                picture = axis.imshow(
                    values.reshape(maps[modality, outcome][2]), cmap="inferno", vmin=0, vmax=top
                )
                axis.set_axis_off()
            else:
                axis.bar(np.arange(1, len(values) + 1), values, color="C0")
                axis.set(xlabel="place of the word", ylim=(0, 1.05 * top))
                axis.set_xlim(0.3, longest + 0.7)
                axis.xaxis.get_major_locator().set_params(integer=True)
        if modality == "image":
            figure.colorbar(picture, ax=row.tolist(), label="attention per patch", shrink=0.85)
        else:
            row[0].set_ylabel("attention per word")
    figure.suptitle(title)
    return figure


def shown(values, counts):
    """Those values (n,), with their counts, that a tenth of the samples have."""
    kept = counts >= max(counts) / 10
    limit = len(values) if kept.all() else WORDS
    return values[kept][:limit], counts[kept][:limit]
