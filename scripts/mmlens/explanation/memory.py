"""How many samples one capture may hold, from what one sample keeps for its backward pass."""

from dataclasses import replace

import torch

from .capture import attention_of, eager_attention, recorded
from .layers import steps_of


def captured_together(model, batch, memory):
    """Positions in a batch (lists) of one capture after the other, each fitting into `memory`.

    As few parts as can be, about equally large: a small last one would take nearly as long. By the
    estimate for one sample, since all are padded alike; so what lies in a part depends on its
    batch alone, and not on the other samples of the job. A part has at least one sample.

    batch : Batch, with an image of its own for each sample; memory : in MB
    """
    most = max(1, int(memory * 2**20 // capture_bytes(model, batch.rows([0]))))
    count = len(batch.input_ids)
    return [part.tolist() for part in torch.arange(count).tensor_split(-(-count // most))]


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
        # Itself it would hold the graph that holds it, where an operation keeps its output.
        return tensor.detach()

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
