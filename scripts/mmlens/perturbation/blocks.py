"""The perturbation test of many samples, a block of them at a time.

Memory does not grow with the number of samples, and what a pass through the model holds depends on
the block alone.
"""

from functools import cache

import torch

from ..explanation.words import word_numbers
from .engine import perturb
from .shards import join_shards


def perturb_blocks(model, data, attributions, sources, *, block, device, words=True, **options):
    """`perturb` of all samples of an `EncodedSamples`, `block` of them at a time.

    Parameters
    ----------
    attributions : DataFrame of `explanation.explain` of these samples
    sources : Sources of all explained samples of the run
    words : whether the pieces of a word are removed together
    options : of `perturb`
    """
    # Every block has the same operators that do not apply.
    options["say"] = cache(options.get("say", print))
    frames = []
    for rows in torch.arange(len(data)).split(block):
        samples = data.samples.iloc[rows.numpy()].reset_index(drop=True)
        inputs = sources.inputs(data, rows, device)
        with torch.no_grad():
            tokens = model.embed(inputs.batch)
        numbers = {
            sample_id: word_numbers(data, row)
            for sample_id, row in zip(samples["sample_id"], rows.tolist(), strict=True)
        }
        maps = attributions[attributions["sample_id"].isin(samples["sample_id"])]
        options["words"] = numbers if words else None
        frames.append(perturb(model, tokens, maps, samples, inputs=inputs, **options))
    return join_shards(frames)
