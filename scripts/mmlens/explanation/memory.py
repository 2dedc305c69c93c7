"""How many samples one capture may hold, from what one sample keeps for its backward pass."""

from dataclasses import replace

import torch

from .capture import attention_of, eager_attention, recorded
from .layers import steps_of


def fitting_batch(model, data, batch_size, memory, device):
    """Samples per capture: at most `batch_size`, at least 1, and no more than fit into `memory`.

    The estimate is that of the longest text of `data`, to which every batch may be padded.

    data : EncodedSamples; memory : in MB
    """
    longest = data.valid.sum(1).argmax()[None] if "text" in model.modalities else torch.tensor([0])
    needed = capture_bytes(model, data.batch(longest, device))
    return max(1, min(batch_size, int(memory * 2**20 // needed)))


def capture_bytes(model, batch):
    """Bytes that a `capture` of this batch takes: its graph, and the gradients of its maps.

    Parameters do not count, which are there already, and a tensor that several operations keep
    counts once.
    """
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    edges = [edge for step in steps_of(model) for edge in step]
    with (
        torch.enable_grad(),
        eager_attention(model),
        recorded([edge.module for edge in edges]) as outputs,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        logits = model(model.embed(replace(batch, image=batch.image.detach().requires_grad_())))
        maps = [attention_of(edge, outputs) for edge in edges]
    del logits  # until here the graph lives, and no memory of it is used twice
    return sum(kept.values()) + sum(part.nbytes for part in maps)
