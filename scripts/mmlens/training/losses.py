"""Losses of binary classification, for hard labels and soft targets."""

import torch
import torch.nn.functional as F


def classification_loss(logits, targets, settings):
    """Mean loss of logits (B,) against targets (B,) in [0, 1].

    Cross-entropy l = -t log p - (1 - t) log(1 - p) with p = sigmoid(logit), and in this order:

    smoothing s : t becomes (1 - s) t + s / 2 (Szegedy et al. 2016).
    gamma : l is multiplied by (1 - p_t)^gamma, with p_t = p t + (1 - p)(1 - t) (focal loss, Lin et
        al. 2017, eq. 4); raising gamma gives samples that are right already less weight.
    alpha : l is multiplied by alpha t + (1 - alpha)(1 - t) (Lin et al. 2017, eq. 5): alpha is the
        weight of label 1, so raising it makes the model say 1 more often; 0.5 halves the loss and
        changes nothing else. null leaves both classes unweighted.

    Parameters
    ----------
    settings : dict with kind (cross_entropy or focal), smoothing, gamma and alpha; gamma counts for
        focal only

    Returns
    -------
    tensor, scalar
    """
    targets = targets * (1 - settings["smoothing"]) + settings["smoothing"] / 2
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    if settings["kind"] == "focal":
        probability = torch.sigmoid(logits)
        right = probability * targets + (1 - probability) * (1 - targets)
        loss = loss * (1 - right) ** settings["gamma"]
    if settings["alpha"] is not None:
        loss = loss * (settings["alpha"] * targets + (1 - settings["alpha"]) * (1 - targets))
    return loss.mean()
