"""Attention between few tokens and many, without linear layers on the many.

A score x_i Wq' Wk y_j may be computed from either side, and so may what is read, Wo Wv y_j. It is
usual to send all tokens of both sides through their layers; where one side has few, its tokens
alone can go through both, once per head. Same values up to rounding, for a fraction of the
operations: of 12 words that read 197 patches in 12 heads, a fifth.
"""

import torch
from torch import nn


def is_worth_it(few, many, width, heads):
    """Whether `few` tokens through both layers cost at most half of `many` through one."""
    return 2 * few * (width + heads * many) <= many * width


def is_usable(attention, dense):
    """Whether nothing but the result is wanted: no gradients, maps, dropout or other layers."""
    if attention.eager or attention.training or torch.is_grad_enabled():
        return False
    layers = (attention.query, attention.key, attention.value, dense)
    return all(type(layer) is nn.Linear for layer in layers)


def few_queries(attention, x, valid, context):
    """What few queries x (B, Q, D) read of a context (B, K, D), as `ProjectedAttention` gives it.

    valid : bool (B, K)
    """
    heads = attention.heads
    query = attention.query(x).unflatten(-1, (heads, -1))
    asked = through(query, attention.key.weight.unflatten(0, (heads, -1)))
    # The bias of the keys adds the same to all scores of a query.
    scores = asked @ context.mT * query.shape[-1] ** -0.5
    scores = scores.masked_fill(~valid[:, None], float("-inf")).softmax(-1)
    mixed = (scores @ context).unflatten(1, (heads, -1)).transpose(0, 1).flatten(1, 2)
    values = mixed @ attention.value.weight.unflatten(0, (heads, -1)).mT
    values = values.unflatten(1, x.shape[:2]).permute(1, 2, 0, 3).flatten(2)
    return values + attention.value.bias


def few_keys(attention, dense, x, valid, context):
    """What queries x (B, Q, D) read of few tokens (B, K, D), after the output layer `dense`.

    valid : bool (B, K)
    """
    heads, (key, value) = attention.heads, attention.read(context)
    key, value = (y.unflatten(-1, (heads, -1)) for y in (key, value))
    asking = through(key, attention.query.weight.unflatten(0, (heads, -1)))
    given = through(value, dense.weight.unflatten(1, (heads, -1)).permute(1, 2, 0))
    bias = torch.einsum("bkhd,hd->bhk", key, attention.query.bias.unflatten(0, (heads, -1)))
    scores = (x @ asking.mT).unflatten(-1, (heads, -1)) + bias[:, None]
    scores = scores * key.shape[-1] ** -0.5
    scores = scores.masked_fill(~valid[:, None, None], float("-inf")).softmax(-1)
    return scores.flatten(2) @ given + dense.bias


def through(x, weights):
    """Tokens x (B, T, H, d) through a layer per head (H, d, D), heads first: (B, H T, D)."""
    found = x.permute(2, 0, 1, 3).flatten(1, 2) @ weights
    return found.unflatten(1, x.shape[:2]).transpose(0, 1).flatten(1, 2)
