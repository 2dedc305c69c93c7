"""Methods that read attention alone: they do not depend on the explained class."""

from . import register_method
from .propagation import propagate, readout, readout_map, row_of


@register_method("raw_attention", class_specific=False)
def raw_attention(capture):
    """Attention of the readout token in the last layer, mean over heads.

    Returns {modality: (B, N)}.
    """
    relevance = {}
    for modality, span in capture.layout.spans.items():
        found, row = readout_map(capture, modality)
        relevance[modality] = row_of(found.attention, row)[:, span.slice]
    return relevance


@register_method("rollout", class_specific=False)
def rollout(capture):
    """Attention rollout (Abnar & Zuidema 2020), through cross-attention as well.

    Each map counts half, the residual connection the other half: for self-attention that is
    row-normalised (A + I), multiplied in the order of the forward pass. A stream that reads
    another one by cross-attention takes half of what that stream holds.
    Returns {modality: (B, N)}.
    """

    def rule(m, state):
        return {
            (s, k): (value + m.attention @ state[m.key, k]) / 2
            for (s, k), value in state.items()
            if s == m.query
        }

    return readout(capture, propagate(capture, rule))
