"""Explanations and their perturbation tests, a block of samples at a time.

Memory does not grow with the number of samples, and what a pass through the model holds depends on
the block alone.
"""

from functools import cache

import torch

from ..explanation.explain import attributions_table, explain_block
from ..explanation.words import word_numbers
from .engine import perturb
from .shards import join_shards


def explain_and_perturb(model, data, predicted, sources, *, block, device, explaining, perturbing):
    """`explain` and `perturb` of all samples of an `EncodedSamples`, `block` of them at a time.

    What the model makes of the inputs of a block, and its answers, are computed once for both.

    Parameters
    ----------
    model, data, predicted : of `explain`
    sources : Sources of all explained samples of the run
    explaining : options of `explain_block`
    perturbing : options of `perturb`, but for inputs and logits; words says whether the pieces of
        a word are removed together

    Returns
    -------
    attributions, perturbation : DataFrames of `explain` and `perturb`
    """
    # Every block has the same operators that do not apply.
    say = cache(print)
    records, missing, tests = [], {}, []
    for rows in torch.arange(len(data)).split(block):
        inputs = sources.inputs(data, rows, device)
        own, unknown, tokens, logits = explain_block(
            model, data, predicted, rows, inputs.batch, **explaining
        )
        samples = data.samples.iloc[rows.numpy()].reset_index(drop=True)
        numbers = {
            sample_id: word_numbers(data, row)
            for sample_id, row in zip(samples["sample_id"], rows.tolist(), strict=True)
        }
        options = {**perturbing, "words": numbers if perturbing["words"] else None}
        maps = attributions_table(own, unknown)
        options |= {"inputs": inputs, "logits": logits, "say": say}
        tests.append(perturb(model, tokens, maps, samples, **options))
        records += own
        missing |= unknown
    return attributions_table(records, missing), join_shards(tests)
