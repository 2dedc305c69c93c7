"""Attribution grid: what each method marks in the image and in the text of example samples."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import colormaps

from ..datasets.images import open_rgb
from ..datasets.truth import decode_mask, with_masks
from .style import label

CASES = {
    "TP": (1, 1),
    "TN": (0, 0),
    "FP": (0, 1),
    "FN": (1, 0),
}
WORDS_PER_LINE = 21  # characters


def examples(predictions, explained):
    """{case: sample_id} of the first explained sample of each of TP, TN, FP, FN that occurs.

    Of many answers two are right and two are wrong: the best answer is the label or it is not.
    """
    chosen = predictions[predictions["sample_id"].isin(explained)]
    found = {}
    if "answers_top5" in chosen:
        right = chosen["label"] == chosen["prediction"]
        for name, rows in (("right", chosen[right]), ("wrong", chosen[~right])):
            for number, sample_id in enumerate(rows["sample_id"].iloc[:2], 1):
                found[f"{name} {number}"] = sample_id
        return found
    for case, (truth, predicted) in CASES.items():
        rows = chosen[(chosen["label"] == truth) & (chosen["prediction"] == predicted)]
        if len(rows):
            found[case] = rows["sample_id"].iat[0]
    return found


def attribution_grid(attributions, predictions, samples, truth, methods, title, names=None):
    """Rows are TP, TN, FP, FN (those that occur), columns the input and every method.

    Image relevance is laid over the image, word relevance behind the words, both scaled per
    sample and method from their least to their greatest value. The outline of the object that
    decides the label is drawn on the input where it is known.

    attributions, predictions : DataFrames of one model and seed; samples, truth : tables;
    names : of the answers, where there are more than two classes
    """
    first = attributions[attributions["draw"] == 0].set_index(["sample_id", "method"])
    cases = examples(predictions, set(attributions["sample_id"]))
    facts = samples.set_index("sample_id")
    said = predictions.set_index("sample_id")
    figure, axes = plt.subplots(
        2 * len(cases),
        1 + len(methods),
        figsize=(1.55 * (1 + len(methods)), 2.2 * len(cases) + 0.5),
        height_ratios=[1.6, 0.6] * len(cases),
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for row, (case, sample_id) in enumerate(cases.items()):
        sample = facts.loc[sample_id]
        pictures, texts = axes[2 * row], axes[2 * row + 1]
        image = read_image(sample["image"])
        show_image(pictures[0], image)
        outline(pictures[0], truth, sample_id)
        pictures[0].set_title(f"{case}: {caption(sample, said.loc[sample_id], names)}", fontsize=7)
        write_words(texts[0], sample["text"].split(), None)
        for column, method in enumerate(methods, start=1):
            found = first.loc[(sample_id, method)]
            show_image(pictures[column], image, found)
            write_words(texts[column], found["tokens"], found["text"])
            if row == 0:
                pictures[column].set_title(label(method), fontsize=8)
    missing = [case for case in CASES if case not in cases] if names is None else []
    note = f" (no {', '.join(missing)} among the explained samples)" if missing else ""
    figure.suptitle(title + note, fontsize=9)
    return figure


def caption(sample, said, names):
    """What is so and what the model says, in two lines."""
    if names is None:
        return f"label {sample['label']}\np(1) = {said['probability']:.2f}"
    return f"{sample['label_name']}\n{names[said['prediction']]}, p = {said['probability']:.2f}"


def read_image(path):
    """An image as RGB array, at most 400 pixels wide or high; None for a sample without one."""
    if not path:
        return None
    image = open_rgb(path)
    image.thumbnail((400, 400))
    return np.asarray(image)


def show_image(axis, image, found=None):
    """Draw an image in colour, or in grey with relevance on top.

    found : row of the attributions table
    """
    if image is None:
        return
    extent = (0, image.shape[1], image.shape[0], 0)
    if found is None:
        axis.imshow(image, extent=extent)
    elif len(found["image"]):
        axis.imshow(image.mean(2), cmap="gray", extent=extent)
        relevance, smooth = unit(found["image"]), "bilinear"
        if len(found["boxes"]):
            boxes = np.reshape(found["boxes"], (-1, 4))
            relevance, smooth = paint(boxes, relevance, image.shape[:2]), "nearest"
        else:
            relevance = relevance.reshape(int(found["grid_rows"]), int(found["grid_columns"]))
        axis.imshow(
            relevance, cmap="inferno", alpha=0.6, extent=extent,
            interpolation=smooth, vmin=0, vmax=1,
        )  # fmt: skip


def paint(boxes, relevance, shape):
    """Array `shape` with the greatest relevance of the boxes over each pixel, 0 outside of all.

    boxes : (N, 4), x1 y1 x2 y2 as shares of the image
    """
    canvas = np.zeros(shape)
    scaled = (boxes * np.array([shape[1], shape[0]] * 2)).round().astype(int)
    for (x1, y1, x2, y2), value in zip(scaled, relevance, strict=True):
        part = canvas[y1:y2, x1:x2]
        np.maximum(part, value, out=part)
    return canvas


def outline(axis, truth, sample_id):
    """Outline of the named object, where the truth knows it."""
    named = truth[(truth["sample_id"] == sample_id) & truth["named"]]
    for row in with_masks(named).itertuples():
        mask = decode_mask(row)
        axis.contour(
            np.arange(mask.shape[1]) + 0.5, np.arange(mask.shape[0]) + 0.5, mask, levels=[0.5],
            colors="white", linewidths=1,
        )  # fmt: skip


def write_words(axis, words, relevance):
    """Words in lines from the top, on a background that shows their relevance."""
    axis.set(xlim=(0, WORDS_PER_LINE), ylim=(5, 0))
    strength = unit(relevance) if relevance is not None and len(relevance) else None
    x, y = 0, 0.5
    for position, word in enumerate(words):
        if x and x + len(word) > WORDS_PER_LINE:
            x, y = 0, y + 1
        colour = colormaps["Reds"](0.7 * strength[position]) if strength is not None else "none"
        axis.text(
            x, y, word, fontsize=5.2, family="monospace", va="center",
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.6},
        )  # fmt: skip
        x += len(word) + 1


def unit(values):
    """Values scaled to [0, 1]; all 0 if they are equal."""
    values = np.asarray(values, float)
    span = np.ptp(values)
    return (values - values.min()) / span if span > 0 else np.zeros_like(values)
