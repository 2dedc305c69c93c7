"""Losses that draw the texts and images of pairs together and those of different pairs apart."""

import torch
import torch.nn.functional as F


def info_nce(text, image, scale, positives):
    """Symmetric cross-entropy of a batch of pairs (InfoNCE; Radford et al. 2021, fig. 3).

    Every text is to find its image among the images of the batch, and every image its text. Where
    several samples show one image, all of their texts belong to it, and the target is spread evenly
    over them (as in Khosla et al. 2020, eq. 2); with one text per image it is CLIP's loss.

    Parameters
    ----------
    text, image : float (B, D), normalised
    scale : factor of the cosines, 1 / temperature
    positives : bool (B, B), symmetric: whether text i belongs to image j

    Returns
    -------
    tensor, scalar: the mean of both directions
    """
    logits = scale * text @ image.T
    targets = positives.to(logits.dtype)
    targets = targets / targets.sum(1, keepdim=True)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def sigmoid_loss(text, image, scale, bias, positives):
    """Binary cross-entropy of every pair of a batch (SigLIP; Zhai et al. 2023, algorithm 1).

    Summed over the images and averaged over the texts, so that with a greater batch the many pairs
    that do not belong together weigh more; bias starts at -10 for that.

    Parameters
    ----------
    text, image : float (B, D), normalised
    scale, bias : logit = scale * cosine + bias
    positives : bool (B, B), whether text i belongs to image j

    Returns
    -------
    tensor, scalar
    """
    logits = scale * text @ image.T + bias
    signs = torch.where(positives, 1.0, -1.0)
    return -F.logsigmoid(signs * logits).sum(1).mean()


def contrastive_loss(text, image, scale, bias, images):
    """The loss of a model's pair embeddings: `sigmoid_loss` if it has a bias, else `info_nce`.

    images : long (B,), equal for samples that show one image
    """
    positives = images[:, None] == images
    if bias is None:
        return info_nce(text, image, scale, positives)
    return sigmoid_loss(text, image, scale, bias, positives)
