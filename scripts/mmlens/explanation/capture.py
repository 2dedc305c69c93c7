"""One forward and one backward pass per batch: all that the methods need, for every model."""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch

from ..models.base import Layout
from .layers import informed_layers, own_layers, steps_of
from .readouts import layer_gradients


@dataclass(frozen=True)
class AttentionMap:
    """One attention map of a batch, reduced over its H heads.

    query, key : names of the streams (equal for self-attention)
    attention : (B, Q, K), mean over heads of A
    relevance : (B, Q, K), mean over heads of ReLU(G * A), with G = ds/dA
    sensitivity : (B, Q, K), mean over heads of ReLU(G)
    layer_sensitivity : (B, Q, K), the same of the readout of the map's own layer (readouts.py),
        where it has one that is not the model's; else `sensitivity`
    heads, gradient : (B, H, Q, K) A and G themselves, kept only for the last map of each pair of
        streams, else None; A of all maps where `capture` was asked for it
    """

    query: str
    key: str
    attention: torch.Tensor
    relevance: torch.Tensor
    sensitivity: torch.Tensor
    layer_sensitivity: torch.Tensor
    heads: torch.Tensor | None = None
    gradient: torch.Tensor | None = None


@dataclass(frozen=True)
class Capture:
    """What one batch of B samples left behind; s is the logit of each sample's target class.

    sample_ids : list of str
    layout : Layout
    logits : (B,) of label 1, or (B, C)
    steps : list of tuples of AttentionMap, in the order of the forward pass; the maps of one
        tuple read the other streams as they were before any of them
    features : {modality: (F, ds/dF)}, both (B, N, D), the tokens Grad-CAM reads, or (B, D, h, w)
        of a convolution
    embeddings : {modality: (E, ds/dE)}, both (B, N, D), the tokens at the model's input
    layers : {modality: list of (H, AttentionMap)}, its tokens (B, N, D) after its
        `informed_layers`, and the self-attention of their stream in the same layer
    image : (x, ds/dx), both (B, 3, S, S), or (B, N, D) for a model on frozen features; None for
        a model without images, (x, None) where `capture` was not asked for it
    boxes : (B, N, 4) of the image tokens (after the class token, if there is one), x1 y1 x2 y2 as
        shares of the image; None where they are the patches of layout.grid
    tokens : {modality: Tokens} at the model's input, detached
    score : function (tokens, rows) -> s (K,) of K rows of tokens, for methods that run the model
        again; rows : long (K,), the sample of each, by default all B in their order
    embed : function of other images (B, 3, S, S), or features, to {modality: Tokens}
    """

    sample_ids: list
    layout: Layout
    logits: torch.Tensor
    steps: list
    features: dict
    embeddings: dict
    layers: dict
    image: tuple | None
    boxes: torch.Tensor | None = None
    tokens: dict | None = None
    score: Callable | None = None
    embed: Callable | None = None

    @property
    def maps(self):
        """All attention maps in order."""
        return [attention_map for step in self.steps for attention_map in step]

    def maps_between(self, query, key):
        """The maps from stream `query` to stream `key`, in order."""
        return [m for m in self.maps if (m.query, m.key) == (query, key)]


def capture(
    model,
    batch,
    sample_ids,
    target,
    grad_cam_layers=None,
    readouts=True,
    heads=False,
    pixels=True,
):
    """Run `model` on `batch` and keep what the explanation methods need.

    The model is used as it is: hooks are removed and fused attention is restored in every case,
    parameters get no gradient, and the logits are those of a plain forward pass.

    Parameters
    ----------
    model : Model in eval mode
    batch : Batch of B samples
    sample_ids : B strings
    target : bool (B,), the class whose logit is explained (True: label 1, False: label 0), or, for
        a model of C answers, long (B,), their numbers
    grad_cam_layers : {modality: module path} to override the model's own choice
    readouts : whether layers are read out one by one, for methods that ask for it; if not,
        `layer_sensitivity` is `sensitivity`
    heads : whether the heads of every map are kept, for methods that ask for one of them
    pixels : whether the gradient at the images is computed, for methods that ask for it: of a
        model that perturbs what an image tower gives, it costs the backward pass of the tower

    Raises
    ------
    RuntimeError if a map that the model announces in `edges` was not computed.
    """
    modules = {m: module for m, module in model.grad_cam_layers().items() if m in model.modalities}
    for modality, path in (grad_cam_layers or {}).items():
        modules[modality] = named_module(model, modality, path)
    announced, every_layer = steps_of(model), own_layers(model)
    layers = informed_layers(model, every_layer)
    watched = [edge.module for step in announced for edge in step] + list(modules.values())
    watched += [module for of_stream in every_layer.values() for _, module in of_stream]
    # A named layer may lie before the tokens, where frozen weights leave no other way back.
    traced = pixels or bool(grad_cam_layers)
    with torch.enable_grad(), eager_attention(model), recorded(watched) as outputs:
        batch = replace(batch, image=batch.image.detach().requires_grad_(traced))
        tokens = model.embed(batch)
        for part in tokens.values():
            if not part.values.requires_grad:
                part.values.requires_grad_()
        logits = model(tokens)
        check_calls(announced, outputs)
        layout = model.layout(tokens)
        attention = [[attention_of(edge, outputs) for edge in step] for step in announced]
        features = {
            modality: layer_features(model, layout, tokens, modality, outputs[module])
            for modality, module in modules.items()
        }
        states = {
            modality: layer_states(layers.get(span.stream, []), outputs, layout, tokens, modality)
            for modality, span in layout.spans.items()
        }
        embeddings = {modality: part.values for modality, part in tokens.items()}
        maps = [found for step in attention for found in step]
        inputs = [*maps, *features.values(), *embeddings.values()] + [batch.image] * pixels
        by_layer = {}
        if readouts:
            of_edges = dict(zip((e for step in announced for e in step), maps, strict=True))
            known = {m: outputs[m][e.call] for own in every_layer.values() for e, m in own}
            read = partial(target_logits, target=target)
            by_layer = layer_gradients(model, tokens, layers, of_edges, known, read)
        score = target_logits(logits, target).sum()
        gradients = torch.autograd.grad(score, inputs, allow_unused=True)
    pairs = iter(
        (x.detach(), torch.zeros_like(x) if g is None else g)
        for x, g in zip(inputs, gradients, strict=True)
    )
    last = {(e.query, e.key): e for step in announced for e in step}
    steps = [
        tuple(reduce_heads(e, *next(pairs), last, by_layer.pop(e, None), heads) for e in step)
        for step in announced
    ]
    reduced = {
        edge: found
        for edges, step in zip(announced, steps, strict=True)
        for edge, found in zip(edges, step, strict=True)
    }
    return Capture(
        sample_ids=list(sample_ids),
        layout=layout,
        logits=logits.detach(),
        steps=steps,
        features={m: own_tokens(next(pairs), layout, tokens, m) for m in features},
        embeddings={m: next(pairs) for m in embeddings},
        layers={m: [(h, reduced[e]) for e, h in found] for m, found in states.items()},
        image=next(pairs, (batch.image, None)) if "image" in model.modalities else None,
        boxes=batch.boxes[batch.image_rows] if model.frozen else None,
        tokens={m: replace(part, values=part.values.detach()) for m, part in tokens.items()},
        score=scorer(model, target),
        embed=embedder(model, batch),
    )


def reduce_heads(edge, attention, gradient, last, of_layer, heads):
    """AttentionMap of one edge; the heads themselves only for the last of its pair of streams.

    heads : whether those of all edges are kept, without their gradients
    """
    keep = last[edge.query, edge.key] is edge
    sensitivity = gradient.relu().mean(1)
    return AttentionMap(
        query=edge.query,
        key=edge.key,
        attention=attention.mean(1),
        relevance=(attention * gradient).relu().mean(1),
        sensitivity=sensitivity,
        layer_sensitivity=sensitivity if of_layer is None else of_layer.relu().mean(1),
        heads=attention if keep or heads else None,
        gradient=gradient if keep else None,
    )


def layer_features(model, layout, tokens, modality, calls):
    """The output of the layer that Grad-CAM reads for a modality, checked to be one.

    (B, N, D) of the tokens of the modality or of its stream, the first item of a module that gives
    a tuple; or (B, D, h, w) of a convolution, for images that lie on a grid.
    """
    stream = layout.valid[layout.spans[modality].stream].shape[1]
    own = tokens[modality].values.shape[1]
    calls = [call[0] if isinstance(call, tuple) else call for call in calls]
    shapes = [tuple(c.shape) if isinstance(c, torch.Tensor) else type(c).__name__ for c in calls]
    if len(calls) == 1 and isinstance(calls[0], torch.Tensor):
        if calls[0].ndim == 3 and calls[0].shape[1] in (stream, own):
            return calls[0]
        if calls[0].ndim == 4 and modality == "image" and layout.grid is not None:
            return calls[0]
    raise ValueError(
        f"grad_cam_layers: the layer for {modality} of {model.name} gave {shapes}; expected one "
        f"(batch, {own} or {stream} tokens, width) per forward pass, or, for patches, one (batch, "
        "channels, height, width)"
    )


def layer_states(layers, outputs, layout, tokens, modality):
    """[(self-edge, tokens (B, N, D) of the modality after its layer)] of a stream's layers."""
    states = []
    for edge, module in layers:
        output = outputs[module][edge.call]
        output = output[0] if isinstance(output, tuple) else output
        states.append((edge, own_tokens((output.detach(),), layout, tokens, modality)[0]))
    return states


def own_tokens(pair, layout, tokens, modality):
    """The tokens of a modality out of features of its stream, or of itself alone."""
    if pair[0].ndim == 4 or pair[0].shape[1] == tokens[modality].values.shape[1]:
        return pair
    return tuple(part[:, layout.spans[modality].slice] for part in pair)


def check_calls(announced, outputs):
    for step in announced:
        for edge in step:
            if len(outputs[edge.module]) <= edge.call:
                raise RuntimeError(
                    f"attention map {edge.query} -> {edge.key}, call {edge.call}: found "
                    f"{len(outputs[edge.module])} calls; the model's edges() and forward disagree"
                )


def target_logits(logits, target):
    """Logits (B,) of the target classes, from those (B,) of label 1 or (B, C) of all answers."""
    if logits.ndim == 1:
        return torch.where(target, logits, -logits)
    return logits.gather(1, target[:, None])[:, 0]


def scorer(model, target):
    """The function `score` of a Capture; as the model is, so that its attention stays fused."""

    def score(tokens, rows=slice(None)):
        return target_logits(model(tokens), target[rows])

    return score


def embedder(model, batch):
    """The function `embed` of a Capture."""

    def embed(image):
        return model.embed(replace(batch, image=image))

    return embed


def attention_of(edge, outputs):
    """The map (B, H, Q, K) of an edge, of all outputs of all modules."""
    return map_in(edge, outputs[edge.module][edge.call])


def map_in(edge, output):
    """The map (B, H, Q, K) of an edge in the output of its module; RuntimeError without one."""
    found = output if edge.item is None else output[edge.item]
    if found is None:
        raise RuntimeError(
            f"attention map {edge.query} -> {edge.key}, call {edge.call}: the module gave None; "
            "use_attention('eager') did not reach it"
        )
    return found


def named_module(model, modality, path):
    """The submodule at a dotted path; ValueError that lists the layers one could mean."""
    if modality not in model.modalities:
        raise ValueError(f"grad_cam_layers: {model.name} does not read {modality}; remove the key")
    modules = dict(model.named_modules())
    if not path or path not in modules:
        kinds = {"norms": torch.nn.LayerNorm, "convolutions": torch.nn.Conv2d}
        known = {
            kind: [name for name, module in modules.items() if isinstance(module, of)]
            for kind, of in kinds.items()
        }
        lists = "; ".join(f"its {kind} are {', '.join(k)}" for kind, k in known.items() if k)
        raise ValueError(f"grad_cam_layers: no layer {path!r} in {model.name}; {lists}")
    return modules[path]


@contextmanager
def eager_attention(model):
    """Attention written out inside the block, as it was before after it."""
    before = model.attention_implementation
    model.use_attention("eager")
    try:
        yield
    finally:
        model.use_attention(before)


@contextmanager
def recorded(modules):
    """Yield {module: list of its outputs, one per call}; hooks go away in every case."""
    outputs = {module: [] for module in modules}
    handles = [
        module.register_forward_hook(lambda m, _inputs, output: outputs[m].append(output))
        for module in outputs
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def observed(model, see):
    """Call see(edge, map (B, H, Q, K)) for every attention map of one forward pass in the block.

    Nothing is kept here, so that a map lives no longer than the layer that computes it. Attention
    is written out inside the block; hooks go away in every case.

    Raises
    ------
    RuntimeError if a map that the model announces in `edges` was not computed.
    """
    announced = steps_of(model)
    edges = {(edge.module, edge.call): edge for step in announced for edge in step}
    calls = {edge.module: [] for edge in edges.values()}

    def look(module, _inputs, output):
        edge = edges.get((module, len(calls[module])))
        calls[module].append(None)
        if edge is not None:
            see(edge, map_in(edge, output))

    handles = [module.register_forward_hook(look) for module in calls]
    try:
        with eager_attention(model):
            yield
        check_calls(announced, calls)
    finally:
        for handle in handles:
            handle.remove()
