"""Weights on disk: safetensors, written atomically, loaded strictly."""

from safetensors.torch import load_file, save_file

from .files import atomic


def save_weights(path, module):
    """Write the state of a torch module."""
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    with atomic(path) as temporary:
        save_file(state, temporary)


def load_weights(path, module):
    """Load a file of `save_weights`; any missing or unexpected tensor is an error of torch."""
    module.load_state_dict(load_file(path), strict=True)
