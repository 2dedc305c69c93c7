"""Bars of one number per token, such as its saliency."""

import matplotlib.pyplot as plt
import numpy as np

from .style import literal, wrapped


def token_bars(tokens, values, title, xlabel="share of saliency"):
    """One horizontal bar per token, in the order of the text from the top.

    tokens : T strings; values : (T,)
    """
    figure, axis = plt.subplots(figsize=(4.5, 0.8 + 0.22 * len(tokens)), layout="constrained")
    places = np.arange(len(tokens))
    axis.barh(places, values, color="C0")
    axis.axvline(0, color="0.3", linewidth=0.8)
    axis.set_yticks(places, [shown(token) for token in tokens])
    axis.set(title=wrapped(title, 60), xlabel=xlabel, ylim=(len(tokens) - 0.5, -0.5))
    axis.grid(False, axis="y")
    return figure


def shown(token):
    """A token with its spaces and line ends visible, since they are part of it."""
    visible = token.replace(" ", "\N{OPEN BOX}").replace("\n", "\\n").replace("\t", "\\t")
    return literal(visible)
