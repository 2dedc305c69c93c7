"""The layers whose token features and self-attention spectral methods read."""

from ..models.base import Parallel


def layers_of(model):
    """{stream: list of (self-edge, module of the layer)}, in the order of the forward pass.

    Of a stream that reads another one by cross-attention, the layers from the first that does on:
    before them its tokens know nothing of the other modality. Of METER, ViLBERT and LXMERT these
    are the cross-modal layers, on which spectral methods were published. Else all layers.
    """
    steps = [s.edges if isinstance(s, Parallel) else (s,) for s in model.edges()]
    found, first = {}, {}
    for edges in steps:
        for edge in edges:
            if edge.query == edge.key:
                found.setdefault(edge.query, []).append((edge, model.layer_of(edge)))
        for cross in (e for e in edges if e.query != e.key and e.query not in first):
            own = [module for _, module in found.get(cross.query, [])]
            # The cross-attention of a layer may follow its self-attention, which then counts.
            layer = model.layer_of(cross) if own else None
            first[cross.query] = own.index(layer) if layer in own else len(own)
    return {stream: own[first.get(stream, 0) :] for stream, own in found.items()}
