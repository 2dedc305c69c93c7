"""Chefer relevance propagation, with cross-attention and without."""

from dataclasses import replace

import torch

from . import register_method
from .propagation import own_readout, propagate, readout, row_of


@register_method(
    "relevance",
    class_specific=True,
    arguments={"preset": {"enum": ["correct", "published"]}},
)
def relevance(capture, preset="correct"):
    """Generic attention relevance (Chefer, Gur & Wolf, ICCV 2021, eqs. 5-11).

    With E the mean over heads of ReLU(G * A): self-attention of stream s adds E R to every
    R[s, .]; queries s reading keys q add Rn_ss^T E Rn_qq to R[s, q] and E R[q, s] to R[s, s],
    where Rn = I + row-normalised (R - I). Crosses that run in parallel read the same state.

    preset : "correct", in the order of the forward pass and read at all rows that the classifier
        reads; or "published", as the published numbers of METER were computed: the maps of a
        parallel group one after the other, those of the image first, R in place of Rn, and a
        modality read at its own stream's row alone, where there is one. Those numbers start
        from the encoded image, so METER needs `image_tokens: encoded` for them.

    Returns {modality: (B, N)}.
    """

    def rule(m, state):
        s, q = m.query, m.key
        if s == q:
            return {
                (t, k): value + m.relevance @ value for (t, k), value in state.items() if t == s
            }
        own, other = state[s, s], state[q, q]
        if preset == "correct":
            own, other = normalised(own), normalised(other)
        return {
            (s, q): state[s, q] + own.transpose(1, 2) @ m.relevance @ other,
            (s, s): state[s, s] + m.relevance @ state[q, s],
        }

    if preset == "correct":
        return readout(capture, propagate(capture, rule))
    state = propagate(one_by_one(capture), rule)
    return own_readout(capture, state, lambda m, row: row_of(state[m.query, m.key], row))


def one_by_one(capture):
    """The capture with one map per step, of every former step those of the image first."""
    ordered = [m for step in capture.steps for m in sorted(step, key=lambda m: m.query != "image")]
    return replace(capture, steps=[(m,) for m in ordered])


@register_method("transformer_attribution", class_specific=True)
def transformer_attribution(capture):
    """Transformer attribution (Chefer, Gur & Wolf, CVPR 2021) without LRP, per stream.

    R_ss += E R_ss at every self-attention of a stream, E as in `relevance`, of which it is the
    part without cross-attention: on a single stream and on two towers they are the same. A
    stream that the classifier reads only through another one is entered by the last map from
    there, E Rn_ss. Returns {modality: (B, N)}.
    """

    def rule(m, state):
        s = m.query
        return {(s, s): state[s, s] + m.relevance @ state[s, s]} if m.key == s else {}

    state = propagate(capture, rule)

    def enter(m, row):
        return row_of(m.relevance @ normalised(state[m.key, m.key]), row)

    return own_readout(capture, state, enter)


def normalised(matrix):
    """I + row-normalised (R - I); rows of R - I that sum to 0 stay 0."""
    eye = torch.eye(matrix.shape[-1], device=matrix.device, dtype=matrix.dtype)
    rest = matrix - eye
    total = rest.sum(-1, keepdim=True)
    return eye + torch.where(total == 0, 0, rest / torch.where(total == 0, 1, total))
