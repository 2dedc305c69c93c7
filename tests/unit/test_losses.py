"""Losses against the formulas and torchvision's focal loss."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import sigmoid_focal_loss

from mmlens.training.losses import classification_loss

PLAIN = {"kind": "cross_entropy", "smoothing": 0.0, "gamma": 2.0, "alpha": None}


def example(count=200, soft=False):
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(count, generator=generator, dtype=torch.float64)
    targets = torch.rand(count, generator=generator, dtype=torch.float64)
    return logits.requires_grad_(), targets if soft else targets.round()


def gradient(loss, logits):
    return torch.autograd.grad(loss, logits)[0]


def test_plain_loss_is_cross_entropy_to_the_bit():
    logits, targets = (x.float() for x in example())
    found = classification_loss(logits, targets, PLAIN)
    assert torch.equal(found, F.binary_cross_entropy_with_logits(logits, targets))


@given(st.floats(0, 5), st.none() | st.floats(0, 1), st.booleans())
def test_focal_loss_and_its_gradient_are_torchvisions(gamma, alpha, soft):
    logits, targets = example(soft=soft)
    settings = {**PLAIN, "kind": "focal", "gamma": gamma, "alpha": alpha}
    theirs = -1 if alpha is None else alpha
    expected = sigmoid_focal_loss(logits, targets, theirs, gamma, reduction="mean")
    found = classification_loss(logits, targets, settings)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient(found, logits), gradient(expected, logits))


def test_gamma_below_one_has_a_gradient_where_the_model_is_right():
    logits = torch.tensor([20.0, -20.0, 300.0, -300.0, 0.3], requires_grad=True)
    targets = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0])
    settings = {**PLAIN, "kind": "focal", "gamma": 0.5}
    found = gradient(classification_loss(logits, targets, settings), logits)
    assert found.isfinite().all()
    assert found[4] < 0


def test_smoothing_moves_targets_towards_one_half():
    logits, targets = example()
    found = classification_loss(logits, targets, {**PLAIN, "smoothing": 0.2})
    expected = F.binary_cross_entropy_with_logits(logits, targets.clamp(0.1, 0.9))
    torch.testing.assert_close(found, expected)
    both = {**PLAIN, "kind": "focal", "smoothing": 0.2}
    expected = sigmoid_focal_loss(logits, targets.clamp(0.1, 0.9), -1, 2, reduction="mean")
    torch.testing.assert_close(classification_loss(logits, targets, both), expected)


@pytest.mark.parametrize("kind", ["cross_entropy", "focal"])
def test_alpha_is_the_weight_of_label_1(kind):
    logits = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([1.0, 0.0], dtype=torch.float64)
    pulls = [
        gradient(classification_loss(logits, targets, {**PLAIN, "kind": kind, "alpha": a}), logits)
        for a in (0.25, 0.5, 0.75)
    ]
    up = [float(-pull[0] / pull[1]) for pull in pulls]
    assert up == pytest.approx([1 / 3, 1, 3])


def test_gamma_of_cross_entropy_does_not_count():
    logits, targets = example()
    losses = {classification_loss(logits, targets, {**PLAIN, "gamma": g}).item() for g in (0, 2, 5)}
    assert len(losses) == 1


def test_soft_scores_of_answers_are_summed_over_answers_and_averaged_over_samples():
    """ViLT's and METER's loss: the mean over all B C elements, times C."""
    logits, targets = (x.reshape(40, 5) for x in example(soft=True))
    found = classification_loss(logits, targets, PLAIN)
    expected = F.binary_cross_entropy_with_logits(logits, targets) * 5
    torch.testing.assert_close(found, expected)
    focal = {**PLAIN, "kind": "focal", "alpha": 0.3, "smoothing": 0.1}
    soft = targets * 0.9 + 0.05
    expected = sigmoid_focal_loss(logits, soft, 0.3, 2, reduction="sum") / 40
    torch.testing.assert_close(classification_loss(logits, targets, focal), expected)


def test_a_loss_of_other_shapes_is_an_error():
    with pytest.raises(ValueError, match=r"shape \(4,\) for targets of shape \(4, 3\)"):
        classification_loss(torch.zeros(4), torch.zeros(4, 3), PLAIN)
