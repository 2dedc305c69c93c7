"""Methods that read attention alone: they do not depend on the explained class."""

from . import register_method
from .propagation import own_readout, propagate, readout, readout_map, row_of


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


@register_method("rollout", class_specific=False, arguments={"crosses": {"type": "boolean"}})
def rollout(capture, crosses=True):
    """Attention rollout (Abnar & Zuidema 2020), through cross-attention as well.

    Each map counts half, the residual connection the other half: for self-attention that is
    row-normalised (A + I), multiplied in the order of the forward pass. A stream that reads
    another one by cross-attention takes half of what that stream holds.

    crosses : without them, as in the published numbers of METER, every stream is rolled out by
        its self-attention alone and read at its own row; a stream that the classifier reads only
        through another one is entered by the last map from there

    Returns {modality: (B, N)}.
    """

    def rule(m, state):
        if not crosses and m.query != m.key:
            return {}
        return {
            (s, k): (value + m.attention @ state[m.key, k]) / 2
            for (s, k), value in state.items()
            if s == m.query
        }

    state = propagate(capture, rule)
    if crosses:
        return readout(capture, state)
    return own_readout(
        capture, state, lambda m, row: row_of(m.attention @ state[m.key, m.key], row)
    )
