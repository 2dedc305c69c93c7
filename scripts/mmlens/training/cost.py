"""What a model costs: parameters, time per sample, memory."""

import resource
import statistics
import time

import torch

REPEATS = 3
BATCH = 100  # samples


@torch.no_grad()
def model_cost(model, data, device):
    """Cost of a trained model.

    Parameters
    ----------
    model : Model on `device`
    data : EncodedSamples

    Returns
    -------
    dict: parameters, trainable (numbers), device, ms_per_sample (forward pass from inputs in memory
    to logits, median of REPEATS batches of up to BATCH samples), peak_mb (of the GPU's memory in
    these passes; on a CPU of the whole process so far)
    """
    model.eval()
    parameters = list(model.parameters())
    rows = torch.arange(len(data))[:BATCH]
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    seconds = []
    for _ in range(1 + REPEATS):  # the first warms up
        batch = data.batch(rows, device)
        synchronise(on_gpu, device)
        start = time.perf_counter()
        model(model.embed(batch))
        synchronise(on_gpu, device)
        seconds.append(time.perf_counter() - start)
    if on_gpu:
        peak = torch.cuda.max_memory_allocated(device) / 2**20
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return {
        "parameters": sum(p.numel() for p in parameters),
        "trainable": sum(p.numel() for p in parameters if p.requires_grad),
        "device": torch.device(device).type,
        "ms_per_sample": 1000 * statistics.median(seconds[1:]) / len(rows),
        "peak_mb": peak,
    }


def synchronise(on_gpu, device):
    """Wait until the GPU has done what was asked of it."""
    if on_gpu:
        torch.cuda.synchronize(device)
