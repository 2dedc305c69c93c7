"""The layers whose token features and self-attention spectral methods read."""

from ..models.base import Parallel


def steps_of(model):
    """The edges of a model as lists, one per step of the forward pass."""
    return [s.edges if isinstance(s, Parallel) else (s,) for s in model.edges()]


def own_layers(model):
    """{stream: list of (self-edge, module of the layer)}, in the order of the forward pass."""
    found = {}
    for edge in (edge for edges in steps_of(model) for edge in edges):
        if edge.query == edge.key:
            found.setdefault(edge.query, []).append((edge, model.layer_of(edge)))
    return found


def informed_layers(model, layers):
    """Of `own_layers`, those whose tokens know of what their stream reads.

    Of a stream that reads another one by cross-attention, the layers from the first that does on:
    before them its tokens know nothing of the other modality. Of METER, ViLBERT and LXMERT these
    are the cross-modal layers, on which spectral methods were published. Else all layers.
    """
    first, passed = {}, dict.fromkeys(layers, 0)
    for edge in (edge for edges in steps_of(model) for edge in edges):
        stream = edge.query
        if stream not in layers:
            continue
        own = [module for _, module in layers[stream]]
        if stream == edge.key:
            passed[stream] += 1
        elif stream not in first:
            # The cross-attention of a layer may follow its self-attention, which then counts.
            layer = model.layer_of(edge)
            first[stream] = own.index(layer) if layer in own else passed[stream]
    return {stream: own[first.get(stream, 0) :] for stream, own in layers.items()}
