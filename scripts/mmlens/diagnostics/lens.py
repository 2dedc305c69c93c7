"""Logit lens: what the model would say if it ended after one of its layers.

nostalgebraist (2020), "interpreting GPT: the logit lens": the state after a layer is given to the
model's own end, its last norms and its head, and the layers between are left out.
"""

import torch

from ..explanation.layers import own_layers, steps_of
from ..explanation.readouts import read_streams, standing_in

OWN = "own"
NO_LAYERS = "the model has no layers with attention, between which its state could be read out"


def why_not(model, layout, readout):
    """Why a readout does not apply to a model; "" where it does."""
    layers = own_layers(model)
    if not layers:
        return NO_LAYERS
    modality = readout.partition(":")[0]
    if modality == OWN:
        return ""
    if modality not in layout.spans:
        return f"the model reads no {modality}"
    if layout.spans[modality].stream not in read_of(model, layout, layers):
        return f"the classifier reads no token of the {modality}'s stream"
    return ""


def read_of(model, layout, layers):
    """Streams with layers that the classifier reads."""
    return read_streams(layout, [edge for step in steps_of(model) for edge in step], layers)


def logit_lens(model, tokens, outputs, readout=OWN):
    """Logits after every layer.

    Of a stream with n of the L layers of the deepest one that is read, layer l of L stands for its
    layer ceil(l n / L), so that all end together.

    Parameters
    ----------
    model : Model in eval mode
    tokens : {modality: Tokens} of the pass that gave the outputs
    outputs : {module: its output} of all layers (`layer_modules`)
    readout : "own", what the classifier itself reads, in all streams that it reads; "text" or
        "image", the mean over the words or image tokens of this modality in its place, or
        "text:3", its token number 3 (from 0, without special tokens; -1 is the last), with the
        other streams as they end

    Returns
    -------
    (L, B) or (L, B, C); the last of "own" is the model's logit. NaN where a sample lacks the token.

    Raises
    ------
    ValueError if the readout does not apply to the model (`why_not`)
    """
    layout, layers = model.layout(tokens), own_layers(model)
    if problem := why_not(model, layout, readout):
        raise ValueError(f"logit lens of {model.name}, readout {readout}: {problem}")
    moved = sorted(read_of(model, layout, layers))
    if readout != OWN:
        moved = [layout.spans[readout.partition(":")[0]].stream]
    depth = max(len(layers[stream]) for stream in moved)
    logits = []
    for number in range(1, depth + 1):
        given, exists = dict(outputs), True
        for stream in moved:
            own = [module for _, module in layers[stream]]
            layer = own[-(-number * len(own) // depth) - 1]
            state = model.as_last(state_of(outputs[layer]), layer)
            if readout != OWN:
                state, exists = in_its_place(state, layout, readout)
            given[own[-1]] = like(outputs[own[-1]], state)
        with standing_in(given):
            found = model(tokens)
        if readout != OWN:
            found[~exists] = torch.nan
        logits.append(found)
    return torch.stack(logits)


def layer_modules(model):
    """The modules whose outputs `logit_lens` reads."""
    return [module for layers in own_layers(model).values() for _, module in layers]


def state_of(output):
    """The state (B, N, D) in the output of a layer."""
    return output[0] if isinstance(output, tuple) else output


def like(output, state):
    """`state` as the output of a layer that gives what `output` is."""
    return (state, *output[1:]) if isinstance(output, tuple) else state


def in_its_place(state, layout, readout):
    """A stream whose tokens all are the one that is read out, and which samples have it.

    Whatever the classifier reads of the stream, its first token, its last or all by attention, it
    then reads this one.

    Returns
    -------
    (B, N, D), bool (B,)
    """
    modality, _, number = readout.partition(":")
    own, content = state[:, layout.spans[modality].slice], layout.content[modality]
    chosen = token_number(content, int(number)) if number else content
    weights = chosen.to(own.dtype) / chosen.sum(1, keepdim=True).clamp(min=1)
    read = torch.einsum("bn,bnd->bd", weights, own)
    return read[:, None].expand_as(state), chosen.any(1)


def token_number(content, number):
    """Bool (B, N) with the content token `number` of every sample alone, or none."""
    place = content.cumsum(1) - 1
    wanted = number if number >= 0 else content.sum(1, keepdim=True) + number
    return content & (place == wanted)


def divergence(final, logits):
    """KL(final || logits) in nats, (L, B): what a layer's answer lacks of the model's own.

    final : (B,) or (B, C), logits : (L, B) or (L, B, C). Two labels have one logit, of label 1;
    many answers are compared by the softmax of their scores.
    """
    pairs = (pair if final.ndim == 2 else torch.stack([torch.zeros_like(pair), pair], -1)
             for pair in (final, logits))  # fmt: skip
    p, q = (pair.double().log_softmax(-1) for pair in pairs)
    return (p.exp() * (p - q)).sum(-1)
