"""Chefer relevance propagation."""

import torch

from . import register_method
from .propagation import propagate, readout


@register_method("relevance", class_specific=True)
def relevance(capture):
    """Generic attention relevance (Chefer, Gur & Wolf, ICCV 2021, eqs. 5-11).

    With E the mean over heads of ReLU(G * A): self-attention of stream s adds E R to every
    R[s, .]; queries s reading keys q add Rn_ss^T E Rn_qq to R[s, q] and E R[q, s] to R[s, s],
    where Rn = I + row-normalised (R - I). Crosses that run in parallel read the same state.
    Returns {modality: (B, N)}.
    """

    def rule(m, state):
        s, q = m.query, m.key
        if s == q:
            return {
                (t, k): value + m.relevance @ value for (t, k), value in state.items() if t == s
            }
        own, other = normalised(state[s, s]), normalised(state[q, q])
        return {
            (s, q): state[s, q] + own.transpose(1, 2) @ m.relevance @ other,
            (s, s): state[s, s] + m.relevance @ state[q, s],
        }

    return readout(capture, propagate(capture, rule))


def normalised(matrix):
    """I + row-normalised (R - I); rows of R - I that sum to 0 stay 0."""
    eye = torch.eye(matrix.shape[-1], device=matrix.device, dtype=matrix.dtype)
    rest = matrix - eye
    total = rest.sum(-1, keepdim=True)
    return eye + torch.where(total == 0, 0, rest / torch.where(total == 0, 1, total))
