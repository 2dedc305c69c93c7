"""Methods that read attention alone: they do not depend on the explained class."""

import torch

from . import NotApplicableError, register_method
from .propagation import own_readout, propagate, readout, readout_maps, row_of


@register_method(
    "raw_attention",
    class_specific=False,
    arguments={"layer": {"type": "integer"}, "head": {"type": ["integer", "null"], "minimum": 0}},
)
def raw_attention(capture, layer=-1, head=None):
    """Attention of the readout token in one layer.

    layer : number among the maps from the stream of the readout token to the modality, from 0 on,
        or from -1, the last one, backwards
    head : number from 0 on; None for the mean over all heads

    Returns {modality: (B, N)}. Raises NotApplicableError to a model that has no such layer or head.
    """
    relevance = {}
    for modality, span in capture.layout.spans.items():
        maps, row = readout_maps(capture, modality)
        if not -len(maps) <= layer < len(maps):
            raise NotApplicableError(f"no layer {layer}: {len(maps)} maps lead to the {modality}")
        attention = maps[layer].attention
        if head is not None:
            heads = maps[layer].heads
            if head >= heads.shape[1]:
                raise NotApplicableError(f"no head {head}: that layer has {heads.shape[1]}")
            attention = heads[:, head]
        relevance[modality] = row_of(attention, row)[:, span.slice]
    return relevance


def layer_attention(capture):
    """{modality: (B, L, N)}: `raw_attention` of each of the L layers that it can read."""
    found = {}
    for modality, span in capture.layout.spans.items():
        maps, row = readout_maps(capture, modality)
        layers = [row_of(m.attention, row)[:, span.slice] for m in maps]
        found[modality] = torch.stack(layers, 1)
    return found


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
