"""Heatmap of numbers between tokens: attention, or saliency for every written token."""

import matplotlib.pyplot as plt
import numpy as np

from .style import wrapped
from .token_bars import shown


def token_heatmap(values, rows, columns, title, labels=("query", "key"), quantity="attention"):
    """One cell per pair of tokens; NaN stays white.

    values : (R, C); rows, columns : R and C tokens; labels : of both axes; quantity : what
        the colours are
    """
    values = np.asarray(values, float)
    size = (1.9 + 0.27 * len(columns), 1.3 + 0.22 * len(rows))
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    image = axis.imshow(values, cmap="viridis", vmin=0, aspect="auto")
    axis.set_xticks(range(len(columns)), [shown(token) for token in columns], rotation=90)
    axis.set_yticks(range(len(rows)), [shown(token) for token in rows])
    axis.set(xlabel=labels[1], ylabel=labels[0])
    axis.grid(False)
    figure.suptitle(wrapped(title, 60))
    figure.colorbar(image, ax=axis, label=quantity)
    return figure
