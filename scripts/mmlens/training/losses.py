"""Losses of classification, for hard labels and soft targets."""

import torch
import torch.nn.functional as F


def classification_loss(logits, targets, settings):
    """Loss of logits (B,) or (B, C) against targets of the same shape in [0, 1].

    Of (B,) the mean. Of C answers, each a label of its own with a soft score as its target, the sum
    over the answers and the mean over the batch, as published for ViLT (Kim et al. 2021) and METER
    (Dou et al. 2022); what follows holds for every answer.

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

    Raises
    ------
    ValueError if logits and targets differ in shape
    """
    if logits.shape != targets.shape:
        raise ValueError(
            f"the model gives logits of shape {tuple(logits.shape)} for targets of shape "
            f"{tuple(targets.shape)}; its number of outputs must be that of the task"
        )
    targets = targets * (1 - settings["smoothing"]) + settings["smoothing"] / 2
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    if settings["kind"] == "focal":
        # 1 - p_t; never 0, where a gamma below 1 would have an infinite slope.
        wrong = torch.sigmoid(-logits) * targets + torch.sigmoid(logits) * (1 - targets)
        loss = loss * wrong.clamp_min(torch.finfo(wrong.dtype).tiny) ** settings["gamma"]
    if settings["alpha"] is not None:
        loss = loss * (settings["alpha"] * targets + (1 - settings["alpha"]) * (1 - targets))
    return loss.mean() if loss.ndim == 1 else loss.sum(1).mean()
