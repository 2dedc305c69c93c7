"""Relevance laid over an image, and behind words or as bars beside them."""

import numpy as np
from matplotlib import colormaps
from matplotlib.patches import Rectangle

from ..datasets.images import open_rgb
from .style import literal, shortened

WORDS_PER_LINE = 21  # characters
POSITIVE, SIGNED = "inferno", "coolwarm"


def read_image(path):
    """An image as RGB array, at most 400 pixels wide or high; None for a sample without one."""
    if not path:
        return None
    image = open_rgb(path)
    image.thumbnail((400, 400))
    return np.asarray(image)


def extent_of(image):
    """Place of an image on its axes, in its pixels."""
    return (0, image.shape[1], image.shape[0], 0)


def scale_of(values):
    """(lowest, highest, colour map) of relevance: with values below 0, symmetric around 0."""
    if len(values) and np.min(values) < 0:
        most = float(np.abs(values).max())
        return -most, most, SIGNED
    return (float(np.min(values)), float(np.max(values)), POSITIVE) if len(values) else (0, 0, None)


def show_image(axis, image):
    """Draw an image in colour."""
    if image is not None:
        axis.imshow(image, extent=extent_of(image))


def show_relevance(axis, image, relevance, grid, boxes):
    """Draw an image in grey with relevance on top: smooth over a grid, blended over boxes.

    relevance : (N,); grid : (rows, columns) of patches; boxes : (N, 4) as shares of the image, or
    empty where the patches fill it
    """
    if image is None or not len(relevance):
        return
    low, high, colours = scale_of(relevance)
    smooth = "bilinear"
    if len(boxes):
        relevance, smooth = blend(boxes, relevance, image.shape[:2]), "nearest"
    else:
        relevance = np.reshape(relevance, grid)
    axis.imshow(image.mean(2), cmap="gray", extent=extent_of(image))
    axis.imshow(
        relevance, cmap=colours, alpha=0.6, extent=extent_of(image),
        interpolation=smooth, vmin=low, vmax=high,
    )  # fmt: skip


def blend(boxes, relevance, shape):
    """Array `shape` with the strongest relevance of the boxes over each pixel, NaN outside of all.

    Strongest is that of the largest size, whatever its sign. A sum would mark the places where
    many boxes overlap, which detectors put around every object, however little each matters.

    boxes : (N, 4), x1 y1 x2 y2 as shares of the image
    """
    canvas = np.full(shape, np.nan)
    scaled = (boxes * np.array([shape[1], shape[0]] * 2)).round().astype(int)
    for number in np.argsort(np.abs(relevance), kind="stable"):
        x1, y1, x2, y2 = scaled[number]
        canvas[y1:y2, x1:x2] = relevance[number]
    return canvas


def outline_boxes(axis, image, relevance, boxes, most=None):
    """Draw boxes in the colours of their relevance, the strongest on top and with thick lines.

    most : only so many of the strongest
    """
    low, high, colours = scale_of(relevance)
    height, width = image.shape[:2]
    order = np.argsort(np.abs(relevance), kind="stable")[-most if most else 0 :]
    for rank, number in enumerate(order, 1):
        x1, y1, x2, y2 = boxes[number] * [width, height, width, height]
        share = (relevance[number] - low) / (high - low) if high > low else 0.0
        axis.add_patch(
            Rectangle(
                (x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colormaps[colours](share),
                linewidth=0.4 + 1.4 * rank / len(order),
            )
        )  # fmt: skip


def write_words(axis, words, relevance):
    """Words in lines from the top, on a background that shows their relevance, blue below 0."""
    axis.set(xlim=(0, WORDS_PER_LINE), ylim=(5, 0))
    shades = word_colours(relevance) if relevance is not None else ["none"] * len(words)
    x, y = 0, 0.5
    for word, colour in zip(words, shades, strict=True):
        word = shortened(word, WORDS_PER_LINE)
        if x and x + len(word) > WORDS_PER_LINE:
            x, y = 0, y + 1
        axis.text(
            x, y, literal(word), fontsize=5.2, family="monospace", va="center",
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.6},
        )  # fmt: skip
        x += len(word) + 1


def word_colours(relevance):
    """A colour for each number: reds from the least to the greatest; of signed ones, blues too."""
    low, high, colours = scale_of(relevance)
    shares = (np.asarray(relevance, float) - low) / (high - low) if high > low else None
    if shares is None:
        shares = np.full(len(relevance), 0.5 if colours == SIGNED else 0.0)
    if colours == SIGNED:  # without its darkest shades, on which no word can be read
        return [colormaps[SIGNED](0.15 + 0.7 * share) for share in shares]
    return [colormaps["Reds"](0.7 * share) for share in shares]


def bar_label(word):
    """A word beside a bar."""
    return literal(shortened(word, WORDS_PER_LINE))


def bar_words(axis, words, relevance, most=40):
    """One bar per word from the top, red, or blue below 0; of many words those that matter most."""
    chosen = np.sort(np.argsort(-np.abs(relevance), kind="stable")[:most])
    values = np.asarray(relevance, float)[chosen]
    axis.barh(range(len(chosen)), values, color=np.where(values < 0, "C0", "C3"))
    axis.set_yticks(range(len(chosen)), [bar_label(words[k]) for k in chosen], fontsize=6)
    axis.set_ylim(len(chosen) - 0.5, -0.5)
    axis.locator_params(axis="x", nbins=4)
    axis.tick_params(axis="x", labelsize=5)
    axis.xaxis.get_offset_text().set_fontsize(5)
    axis.grid(False, axis="y")
    if len(chosen) < len(words):
        axis.set_xlabel(f"{len(chosen)} of {len(words)} words", fontsize=6)
