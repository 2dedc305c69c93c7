"""Validation of answers and of pairs, by hand."""

import math

import pytest
import torch

from mmlens.training.selection import answer_metrics, right_first


class Answers:
    """What `answer_metrics` asks of EncodedSamples."""

    scores = torch.tensor([[1.0, 0.0, 0.3], [0.0, 0.6, 0.0], [0.0, 0.0, 0.0]])

    def targets(self, index):
        return self.scores[index]


def test_accuracy_of_answers_is_the_score_of_the_likeliest():
    logits = torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0], [5.0, 0.0, 0.0]])
    found = answer_metrics(logits, Answers(), torch.arange(3))
    assert found["val_accuracy"] == pytest.approx((0.3 + 0.6 + 0) / 3)
    zero = answer_metrics(torch.zeros(2, 3), Answers(), torch.tensor([2, 0]))
    assert zero["val_loss"] == pytest.approx(3 * math.log(2))


def test_recall_takes_any_text_of_the_image():
    text = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    image = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.1, 0.9]])
    assert right_first(text, image, torch.tensor([0, 0, 1])) == pytest.approx(2 / 3)
    assert right_first(text, image, torch.tensor([0, 1, 2])) == pytest.approx(1 / 3)
