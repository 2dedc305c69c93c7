"""Attribution grid: what each method marks in the image and in the text of example samples."""

import matplotlib.pyplot as plt
import numpy as np

from ..datasets.truth import decode_mask, with_masks
from ..explanation.words import merge_pieces
from .relevance import outline_boxes, read_image, show_image, show_relevance, write_words
from .style import label, literal

CASES = {
    "TP": (1, 1),
    "TN": (0, 0),
    "FP": (0, 1),
    "FN": (1, 0),
}
OUTLINED = 3  # boxes of a sample, the most relevant ones
COLUMNS = 13  # methods side by side; more go on below


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
    """Rows are TP, TN, FP, FN (those that occur), columns the input and every method, in one line
    or several.

    Image relevance is laid over the image, word relevance, the sum over the pieces of a word,
    behind the words, both scaled per sample and method from their least to their greatest value;
    with values below 0, symmetrically. Of regions, the most relevant ones are outlined. The outline
    of the object that decides the label is drawn on the input where it is known. A method that is
    not applicable to the model says so.

    attributions, predictions : DataFrames of one model and seed; samples, truth : tables;
    names : of the answers, where there are more than two classes
    """
    first = attributions[attributions["draw"] == 0].set_index(["sample_id", "method"])
    cases = examples(predictions, set(attributions["sample_id"]))
    facts = samples.set_index("sample_id")
    said = predictions.set_index("sample_id")
    columns = min(COLUMNS, len(methods))
    parts = [methods[start : start + columns] for start in range(0, len(methods), columns)]
    lines = [(case, part) for case in cases for part in parts]
    figure, axes = plt.subplots(
        2 * len(lines),
        1 + columns,
        figsize=(1.55 * (1 + columns), 2.2 * len(lines) + 0.5),
        height_ratios=[1.6, 0.6] * len(lines),
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for row, (case, part) in enumerate(lines):
        sample_id = cases[case]
        sample = facts.loc[sample_id]
        pictures, texts = axes[2 * row], axes[2 * row + 1]
        image = read_image(sample["image"])
        if part is parts[0]:
            show_image(pictures[0], image)
            outline(pictures[0], truth, sample_id)
            shown = f"{case}: {caption(sample, said.loc[sample_id], names)}"
            pictures[0].set_title(shown, fontsize=7)
            write_words(texts[0], sample["text"].split(), None)
        for column, method in enumerate(part, start=1):
            if row == 0 or len(parts) > 1:
                pictures[column].set_title(label(method), fontsize=8)
            if (sample_id, method) in first.index:
                show_maps(pictures[column], texts[column], image, first.loc[(sample_id, method)])
            else:
                write_words(texts[column], ["not applicable"], None)
    missing = [case for case in CASES if case not in cases] if names is None else []
    note = f" (no {', '.join(missing)} among the explained samples)" if missing else ""
    figure.suptitle(title + note, fontsize=9)
    return figure


def caption(sample, said, names):
    """What is so and what the model says, in two lines."""
    if names is None:
        return f"label {sample['label']}\np(1) = {said['probability']:.2f}"
    said_and_true = f"{sample['label_name']}\n{names[said['prediction']]}"
    return literal(f"{said_and_true}, p = {said['probability']:.2f}")


def show_maps(picture, words, image, found):
    """Draw a row of the attributions table: its image map on one axis, its words on the other."""
    boxes = np.reshape(found["boxes"], (-1, 4))
    grid = (int(found["grid_rows"]), int(found["grid_columns"]))
    show_relevance(picture, image, found["image"], grid, boxes)
    if len(boxes) and not grid[0] and image is not None:
        outline_boxes(picture, image, found["image"], boxes, OUTLINED)
    write_words(words, *merge_pieces(found["tokens"], found["text"], found["words"]))


def outline(axis, truth, sample_id):
    """Outline of the named object, where the truth knows it."""
    named = truth[(truth["sample_id"] == sample_id) & truth["named"]]
    for row in with_masks(named).itertuples():
        mask = decode_mask(row)
        axis.contour(
            np.arange(mask.shape[1]) + 0.5, np.arange(mask.shape[0]) + 0.5, mask, levels=[0.5],
            colors="white", linewidths=1,
        )  # fmt: skip
