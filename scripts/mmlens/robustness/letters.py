"""Corruptions of texts that leave their meaning to a human reader."""

import re

import numpy as np

from ..files import seed_from
from . import register_corruption

# Cyrillic and Greek letters that look like Latin ones.
LOOK_ALIKE = str.maketrans("aceiopsxyABEHKMOPTX", "асеіорѕхуАВЕНКМОРТХ")  # noqa: RUF001
# Sentences around a text that add nothing to it, in the order of their levels.
FRAMES = ("{text} , it says", "it says {text}", "here we read : {text} , so it is")
LONG_WORD = re.compile(r"[^\W\d_]{4,}")
BEGINNING = re.compile("(?<![\\w'\N{RIGHT SINGLE QUOTATION MARK}])[^\\W\\d_]")  # of a word


def draws(text, name, count):
    """`count` even random numbers, the same for every level."""
    return np.random.default_rng(seed_from(name, text)).random(count)


@register_corruption(
    "typos",
    modality="text",
    levels=[0.1, 0.3, 0.6],
    level={"type": "number", "minimum": 0, "maximum": 1},
)
def typos(text, level):
    """Each word of four or more letters gets, with probability `level`, two inner letters swapped.

    Swapped are neighbours that differ; the first and the last letter stay.
    """
    words = list(LONG_WORD.finditer(text))
    chance, place = draws(text, "typos", 2 * len(words)).reshape(2, -1)
    letters = list(text)
    for k, word in enumerate(words):
        inner = [n for n in range(word.start() + 1, word.end() - 2) if text[n] != text[n + 1]]
        if chance[k] < level and inner:
            n = inner[int(place[k] * len(inner))]
            letters[n : n + 2] = letters[n + 1], letters[n]
    return "".join(letters)


@register_corruption(
    "word_drop",
    modality="text",
    levels=[0.1, 0.3, 0.5],
    level={"type": "number", "minimum": 0, "maximum": 1},
)
def word_drop(text, level):
    """Each word is left out with probability `level`; the last one that would be is kept."""
    words = text.split()
    chance = draws(text, "word drop", len(words))
    kept = [word for word, drawn in zip(words, chance, strict=True) if drawn >= level]
    return " ".join(kept or [words[int(chance.argmax())]] if words else [])


@register_corruption(
    "paraphrase", modality="text", levels=[1, 2, 3], level={"type": "integer", "enum": [1, 2, 3]}
)
def paraphrase(text, level):
    """The text within the sentence number `level` of FRAMES, which adds nothing to it."""
    return FRAMES[level - 1].format(text=text)


@register_corruption(
    "case", modality="text", levels=[1, 2, 3], level={"type": "integer", "enum": [1, 2, 3]}
)
def case(text, level):
    """1: its first letter in upper case; 2: The First Of Every Word; 3: ALL OF THEM."""
    if level == 1:
        return text[:1].upper() + text[1:]
    if level == 2:
        return BEGINNING.sub(lambda match: match[0].upper(), text)
    return text.upper()


@register_corruption(
    "homoglyphs",
    modality="text",
    levels=[0.1, 0.3, 0.6],
    level={"type": "number", "minimum": 0, "maximum": 1},
)
def homoglyphs(text, level):
    """Each Latin letter that has a look-alike in another script becomes it with chance `level`."""
    chance = draws(text, "homoglyphs", len(text))
    swapped = text.translate(LOOK_ALIKE)
    return "".join(
        new if drawn < level else old for old, new, drawn in zip(text, swapped, chance, strict=True)
    )
