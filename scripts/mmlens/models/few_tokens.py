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
    asked = through(query, attention.key.weight.unflatten(0, (heads, -1))).flatten(1, 2)
    # The bias of the keys adds the same to all scores of a query.
    scores = asked @ context.mT * query.shape[-1] ** -0.5
    scores = scores.masked_fill(~valid[:, None], float("-inf")).softmax(-1)
    mixed = (scores @ context).unflatten(1, (-1, heads))
    values = through(mixed, attention.value.weight.unflatten(0, (heads, -1)).mT)
    return values.flatten(2) + attention.value.bias


def few_keys(attention, dense, x, valid, context):
    """What queries x (B, Q, D) read of few tokens (B, K, D), after the output layer `dense`.

    valid : bool (B, K)
    """
    heads, (key, value) = attention.heads, attention.read(context)
    key, value = (y.unflatten(-1, (heads, -1)) for y in (key, value))
    asking = through(key, attention.query.weight.unflatten(0, (heads, -1)))
    given = through(value, dense.weight.unflatten(1, (heads, -1)).permute(1, 2, 0))
    bias = torch.einsum("bkhd,hd->bkh", key, attention.query.bias.unflatten(0, (heads, -1)))
    scores = (x @ asking.flatten(1, 2).mT).unflatten(-1, (-1, heads)) + bias[:, None]
    scores = scores * key.shape[-1] ** -0.5
    scores = scores.masked_fill(~valid[:, None, :, None], float("-inf")).softmax(-2)
    return scores.flatten(2) @ given.flatten(1, 2) + dense.bias


def through(x, weights):
    """Tokens x (B, T, H, i) through a layer per head (H, i, o): (B, T, H, o).

    Written where it belongs: the product's own result has the heads first, and would be copied.
    """
    found = x.new_empty(*x.shape[:3], weights.shape[-1])
    tokens, written = (y.flatten(0, 1).transpose(0, 1) for y in (x, found))
    torch.bmm(tokens, weights.to(x.dtype), out=written)
    return found
