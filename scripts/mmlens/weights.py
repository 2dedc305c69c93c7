"""Weights on disk: safetensors, written atomically; everything is loaded strictly."""

import json
import pickle
from collections import OrderedDict
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import load_file, load_model, save_model

from .files import atomic
from .table import DataError

# Keys under which published files hold their tensors beside other facts.
CONTAINERS = ("model", "state_dict", "model_state_dict")
# All that a pickle may call: what builds tensors and ordered dicts of data.
BUILDERS = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
}


class Foreign:
    """Stands for any other object of a pickle, and for its class: it takes all and does nothing.

    Training frameworks put classes of their own beside the tensors, such as callbacks.
    """

    def __new__(cls, *_arguments, **_options):
        return object.__new__(cls)

    def __init__(self, *_arguments, **_options):
        pass

    def ignore(self, *_arguments):
        pass

    __setstate__ = __setitem__ = append = extend = add = ignore


class DataUnpickler(pickle.Unpickler):
    """Reads tensors and plain containers; every other class or function becomes `Foreign`.

    So nothing that a file names is imported or called. A builder is wrapped anew each time,
    since a pickle can set attributes of what it finds.
    """

    def find_class(self, module, name):
        builder = BUILDERS.get((module, name))
        return Foreign if builder is None else partial(builder)


def save_weights(path, module):
    """Write the state of a torch module; a tensor that has two names is written once."""
    with atomic(path) as temporary:
        save_model(module, temporary)


def load_weights(path, module):
    """Load a file of `save_weights`; any missing or unexpected tensor is an error of torch."""
    load_model(module, path, strict=True)


def read_content(path):
    """What a .safetensors or torch file holds: tensors by name, perhaps within other facts.

    Of several .safetensors that belong together the path is that of their index.

    Raises
    ------
    DataError if the file is not there or cannot be read as data alone, without running code.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError("weights", [f"{path}: no such file; download it"])
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix == ".json":  # an index of several
            parts = json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()
            read = [load_file(path.with_name(part)) for part in sorted(set(parts))]
            return {name: tensor for part in read for name, tensor in part.items()}
        try:
            # Without weights_only a file could run any code.
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            return read_data(path)
    except Exception as error:  # torch and safetensors raise a dozen kinds
        message = " ".join(str(error).split())[:300]
        problem = f"{path}: cannot be read ({type(error).__name__}: {message}); download it again"
        raise DataError("weights", [problem]) from None


def read_data(path):
    """What is data in a torch file that holds foreign classes as well, without running code."""
    module = SimpleNamespace(Unpickler=DataUnpickler, load=load_data, __name__=__name__)
    return torch.load(path, map_location="cpu", weights_only=False, pickle_module=module)


def load_data(file, **options):
    """`pickle.load` by a `DataUnpickler`, for the header of old files."""
    return DataUnpickler(file, **options).load()


def state_of(content, path):
    """{name: tensor} of what `read_content` gave: alone or under one of CONTAINERS.

    Names lose the prefix "module." of a network that was trained on several GPUs.
    """
    if isinstance(content, dict):
        content = next((content[k] for k in CONTAINERS if k in content), content)
    if not isinstance(content, dict) or not all(torch.is_tensor(v) for v in content.values()):
        problem = f'{path}: no table of tensors; expected one, alone or under "model"'
        raise DataError("weights", [problem])
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def load_state(module, path, state=None):
    """Load weights strictly; returns `module` in eval mode, without gradients.

    Parameters
    ----------
    module : torch module, perhaps on the meta device
    path : of the file, for messages and, without `state`, to read
    state : {name: tensor}

    Raises
    ------
    DataError naming every tensor that is missing, unexpected or of another shape; only counters
    of BatchNorm, which nothing reads, may be absent.
    """
    state = state_of(read_content(path), path) if state is None else dict(state)
    expected = module.state_dict()
    for name, own in expected.items():
        if name.endswith("num_batches_tracked"):
            state.setdefault(name, torch.zeros((), dtype=own.dtype))
    missing = [name for name in expected if name not in state]
    extra = [name for name in state if name not in expected]
    problems = [f"{path}: no {name}; expected {tuple(expected[name].shape)}" for name in missing]
    problems += [f"{path}: unexpected {name} {tuple(state[name].shape)}" for name in extra]
    problems += [
        f"{path}: {name} has shape {tuple(state[name].shape)}; expected {tuple(own.shape)}"
        for name, own in expected.items()
        if name in state and state[name].shape != own.shape
    ]
    if problems:
        raise DataError("weights", problems)
    state = {name: value.to(expected[name].dtype) for name, value in state.items()}
    module.load_state_dict(state, assign=True)
    return module.eval().requires_grad_(False)
