"""Readouts of single layers: what the model would say if a stream ended after one of its layers."""

from contextlib import contextmanager

import torch


def layer_gradients(model, tokens, layers, maps, outputs, score):
    """Gradients of the readouts of single layers with respect to the maps of the same layers.

    For every stream with a readout of its own, or one that pools it, and each of its layers but
    the last, s_l is the logit that the model's own end, its last norm and its head, gives for
    the stream's state after layer l, with the other streams as they end.

    Parameters
    ----------
    model : Model
    tokens : {modality: Tokens} of the pass that gave the maps and the outputs
    layers : {stream: list of (self-edge, module)}, of `informed_layers`
    maps : {Edge: (B, H, Q, K)} of all edges, in the order of the forward pass
    outputs : {module: its output} of all layers; they are not computed again
    score : function from logits to s (B,)

    Returns
    -------
    {Edge: ds_l/dA (B, H, Q, K)} for the maps of layers that have a readout of their own
    """
    gradients = {}
    for stream in sorted(read_streams(model.layout(tokens), maps, layers)):
        own = [module for _, module in layers[stream]]
        within = maps_within(model, own, [edge for edge in maps if edge.query == stream])
        for module, edges in zip(own[:-1], within, strict=False):
            # Else a stream that reads this one would carry its gradient on.
            ended = {other: detached(output) for other, output in outputs.items()}
            with standing_in({**ended, own[-1]: outputs[module]}):
                readout = score(model(tokens)).sum()
            wanted = [maps[edge] for edge in edges]
            parts = torch.autograd.grad(readout, wanted, retain_graph=True, materialize_grads=True)
            gradients.update(zip(edges, parts, strict=True))
    return gradients


def read_streams(layout, edges, layers):
    """Streams with layers of their own that the classifier reads, at a token or by pooling.

    layout : Layout; edges : all of the model; layers : {stream: its layers}
    """
    read = {stream for stream, _ in layout.readouts}
    read |= {edge.key for edge in edges if edge.query in read and edge.query not in layers}
    return read & set(layers)


def maps_within(model, modules, edges):
    """For each of a stream's layers, its edges among those of the stream, in their order.

    A cross-attention between two layers belongs to the second of them.
    """
    within, waiting = [[] for _ in modules], []
    for edge in edges:
        layer = model.layer_of(edge)
        if layer in modules:
            within[modules.index(layer)] += [*waiting, edge]
            waiting = []
        elif edge.query != edge.key:
            waiting.append(edge)
    return within


def detached(output):
    """A module's output, a tensor or a tuple with some, without its graph."""
    if isinstance(output, tuple):
        return tuple(detached(part) for part in output)
    return output.detach() if isinstance(output, torch.Tensor) else output


@contextmanager
def standing_in(outputs):
    """Modules give these outputs without computing anything; they compute again in every case."""
    try:
        for module, output in outputs.items():
            module.forward = lambda *_, given=output, **__: given
        yield
    finally:
        for module in outputs:
            module.__dict__.pop("forward", None)
