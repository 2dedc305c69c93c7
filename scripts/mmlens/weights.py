"""Weights on disk: safetensors, written atomically; everything is loaded strictly."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from .files import atomic
from .table import DataError


def save_weights(path, module):
    """Write the state of a torch module."""
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    with atomic(path) as temporary:
        save_file(state, temporary)


def load_weights(path, module):
    """Load a file of `save_weights`; any missing or unexpected tensor is an error of torch."""
    module.load_state_dict(load_file(path), strict=True)


def read_state(path):
    """{name: tensor} of a .safetensors file, or of a torch file that holds tensors only.

    A torch file may wrap its state in "model" or "state_dict"; names lose the prefix "module."
    of a network that was trained on several GPUs.

    Raises
    ------
    DataError if the file cannot be read as weights.
    """
    try:
        if Path(path).suffix == ".safetensors":
            return load_file(path)
        # Without weights_only a file could run any code.
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = next((content[k] for k in ("model", "state_dict") if k in content), content)
        return {name.removeprefix("module."): tensor for name, tensor in state.items()}
    except Exception as error:  # torch and safetensors raise a dozen kinds
        problem = f"{path}: not a file of weights ({type(error).__name__}: {error})"
        raise DataError("weights", [problem]) from None


def load_state(module, path):
    """Load the file at `path` into `module` and return it in eval mode, without gradients.

    Raises
    ------
    DataError naming every tensor that is missing, unexpected or of another shape; only counters
    of BatchNorm, which nothing reads, may be absent.
    """
    state, expected = read_state(path), module.state_dict()
    counters = {name for name in expected if name.endswith("num_batches_tracked")}
    problems = [f"{path}: no tensor {name}" for name in expected.keys() - state.keys() - counters]
    problems += [f"{path}: unexpected tensor {name}" for name in state.keys() - expected.keys()]
    problems += [
        f"{path}: {name} has shape {tuple(state[name].shape)}, expected {tuple(own.shape)}"
        for name, own in expected.items()
        if name in state and state[name].shape != own.shape
    ]
    if problems:
        raise DataError("weights", sorted(problems))
    module.load_state_dict({n: state.get(n, own) for n, own in expected.items()}, strict=True)
    return module.eval().requires_grad_(False)
