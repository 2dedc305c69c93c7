"""Parameters of a model in random order, block by block, and put back as they were."""

from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from ..files import seed_from
from ..models.layers import RecomputedLayer


@torch.no_grad()
def parameter_blocks(model, batch, most):
    """The parameters that a forward pass uses, from the head down to the embeddings.

    A layer, by its class or as an entry of a list of layers, is a block with all that it contains;
    what runs after the last, between and before them are blocks too: head, embeddings, or the
    name of a module. Neighbours are joined into `most` blocks of about as many.

    Parameters
    ----------
    model : Model in eval mode
    batch : Batch of at least one sample, which is run to learn the order
    most : int, largest number of blocks

    Returns
    -------
    list of (name, {name of parameter: parameter}); a parameter of several modules is in the block
    of the first of them that runs
    """
    called = with_containers(call_order(model, batch))
    layer_of = {name: layer_path(model, name) for name, _ in model.named_modules()}
    last = {}  # call of each layer's last module
    for name, call in called.items():
        layer = layer_of[name]
        last[layer] = max(call, last.get(layer, call))
    found = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        module = name.rpartition(".")[0]
        while module not in called:
            # Weights that are read without calling their module are read by what is around it.
            module = module.rpartition(".")[0]
        layer = layer_of[module]
        call = last[layer] if layer else called[module]
        use = (call, layer, module, name, parameter)
        found[id(parameter)] = min(use, found.get(id(parameter), use), key=lambda use: use[0])
    blocks = []
    for _, layer, module, name, parameter in sorted(
        found.values(), key=lambda use: use[0], reverse=True
    ):
        if not blocks or blocks[-1][0] != layer:
            blocks.append((layer, layer or module, {}))
        blocks[-1][2][name] = parameter
    named = [(name.removeprefix("network."), parameters) for _, name, parameters in blocks]
    for place, name in ((-1, "embeddings"), (0, "head")):
        if not blocks[place][0]:
            named[place] = (name, named[place][1])
    groups = np.array_split(np.arange(len(named)), min(most, len(named)))
    return [joined([named[k] for k in group]) for group in groups]


def joined(blocks):
    """One block (name, parameters) of several neighbours."""
    names = list(dict.fromkeys((blocks[0][0], blocks[-1][0])))
    return " to ".join(names), {n: p for _, parameters in blocks for n, p in parameters.items()}


def call_order(model, batch):
    """{name of module: place of the end of its first call among all} in one forward pass."""
    order, handles = {}, []
    for name, module in model.named_modules():

        def note(*_, name=name):
            order.setdefault(name, len(order))

        handles.append(module.register_forward_hook(note))
    try:
        model(model.embed(batch))
    finally:
        for handle in handles:
            handle.remove()
    return order


def with_containers(called):
    """`call_order` with modules that are no step themselves, at the first call inside of them."""
    places = dict(called)
    for name, call in called.items():
        while name := name.rpartition(".")[0]:
            places.setdefault(name, call)
    return places


def layer_path(model, name):
    """Path of the outermost layer that a module belongs to, "" for none."""
    parts = name.split(".")
    above, paths = model, [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
    for path in paths:
        module = model.get_submodule(path)
        if isinstance(above, nn.ModuleList) or isinstance(module, RecomputedLayer):
            return path
        above = module
    return ""


@contextmanager
def randomised(parameters, seed):
    """The entries of every parameter in random order inside the block, as they were after it.

    That keeps the distribution of each tensor, whatever its layer, which a fresh initialisation
    of layers that one does not know could not; tensors of equal entries, such as the weights of a
    norm that was never trained, stay. The order is keyed by the name, so that a parameter gets the
    same one whatever others are randomised. Values return bit by bit, after exceptions too.

    parameters : {name: parameter}
    """
    kept = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    try:
        write(parameters, {name: reordered(kept[name], name, seed) for name in parameters})
        yield
    finally:
        write(parameters, kept)


def reordered(values, name, seed):
    """The entries of a tensor in random order, keyed by its name."""
    generator = torch.Generator().manual_seed(seed_from("randomised", seed, name))
    order = torch.randperm(values.numel(), generator=generator)
    return values.flatten()[order.to(values.device)].view_as(values)


@torch.no_grad()
def write(parameters, values):
    for name, parameter in parameters.items():
        parameter.copy_(values[name])
