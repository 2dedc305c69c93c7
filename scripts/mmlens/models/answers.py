"""Heads that come with published answers: which output stands for which of the run's answers."""

import json
from pathlib import Path

import torch

from ..datasets.answers import by_index
from ..table import DataError


def read_answers(path):
    """Names of the answers that a head's outputs stand for, in order, of a JSON file.

    path : a list of answers, {answer: index} or {index: answer}

    Raises
    ------
    DataError if the file holds something else, or the indices have gaps.
    """
    try:
        found = by_index(json.loads(Path(path).read_text(encoding="utf-8")))
        if sorted(found) != list(range(len(found))):
            raise ValueError(f"the indices are not 0 to {len(found) - 1}")
    except (OSError, ValueError, TypeError) as error:
        expected = "a JSON list of answers, {answer: index} or {index: answer}"
        problem = f"{path}: {error}; expected {expected} (arguments.answers)"
        raise DataError("variants", [problem]) from None
    return [found[index] for index in range(len(found))]


def arrange_answers(model, wanted):
    """Bring the outputs of a head that was read from a file into the order of the run's answers.

    A model whose head was read says so by `published_answers`; of other models nothing changes.

    Parameters
    ----------
    model : Model
    wanted : the run's answers, in order

    Raises
    ------
    DataError if the run has other answers than the head.
    """
    layer, own = model.published_answers()
    if own is None:
        return
    number = {answer: k for k, answer in enumerate(own)}
    missing = [answer for answer in wanted if answer not in number]
    if missing or len(wanted) != len(own):
        problem = (
            f"{model.name}: its head gives {len(own)} published answers, the run has {len(wanted)}"
            f", {len(missing)} of them unknown to it; set dataset.vocabulary to vilt or lxmert"
        )
        raise DataError("answers", [problem])
    order = torch.tensor([number[answer] for answer in wanted])
    with torch.no_grad():
        layer.weight.copy_(layer.weight[order])
        layer.bias.copy_(layer.bias[order])
