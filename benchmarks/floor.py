"""The least time that the published protocol can take on METER, from operations and their rate."""

import numpy as np
import torch
from measuring import timed

from mmlens.models.meter import ANSWERS


def attention(width, queries, context):
    """Multiply-adds of an attention block with its four linear layers; of its products alone."""
    return 2 * (queries + context) * width**2, 2 * queries * context * width


def least_attention(width, heads, queries, context):
    """The least of them: the usual, or few tokens through the layers of both sides, per head."""
    few, many = sorted((queries, context))
    through_both = 4 * few * width**2 + 2 * few * heads * many * width
    return min(sum(attention(width, queries, context)), through_both)


def operations(config, tokens, subsets, count):
    """Least floating-point operations per sample of all methods and tests, as far as it is known.

    One forward pass with its gradients, down to the first attention maps and not to the weights,
    and one answer for every different subset but the whole, which that pass answers: the towers
    anew only where they read what is removed; of the first cross-modal pair not what a removal
    leaves as it is (meter_removal.py); of the last one what is read; attention between few tokens
    and many by the few (few_tokens.py). Norms, softmax and all that is no matrix product are left
    out.

    config : MeterConfig; tokens : words; subsets : see `Case.answers`; count : number of samples
    """
    width, heads, inner = config.hidden_size, config.num_heads, config.num_top_layer - 2
    patches = 1 + config.grid[0] * config.grid[1]
    side, of_text = config.vision_width, config.text_hidden_size
    head = 6 * width**2 + 2 * width * ANSWERS

    def after_itself(own, other):
        """A layer of the cross-modal part after its self-attention."""
        return least_attention(width, heads, own, other) + 8 * own * width**2

    def pair(words, patches, read=None):
        """A cross-modal pair, of which `read` states of both streams are wanted."""
        return sum(
            least_attention(width, heads, read or own, own) + after_itself(read or own, other)
            for own, other in ((words, patches), (patches, words))
        )

    def tower(layers, width, tokens):
        linear, products = attention(width, tokens, tokens)
        return np.array([layers * (linear + 8 * tokens * width**2), layers * products])

    def answer(removed, kept):
        """From the first pair on, in which the stream that stays has met itself."""
        first = sum(attention(width, removed, removed)) + after_itself(removed, kept)
        first += after_itself(kept, removed)
        return first + inner * pair(removed, kept) + pair(removed, kept, 1) + head

    def words_alone(words):
        layers = config.text_num_hidden_layers
        return tower(layers, of_text, words) + np.array([words * of_text * width, 0])

    pairs = sum(tower(1, width, n) for n in (tokens, patches))
    pairs = pairs + 2 * np.array(attention(width, tokens, patches))
    image = 3 * config.patch_size**2 * (patches - 1) * side + patches * side * width
    image += tower(config.vision_layers - 1, side, patches).sum()
    forward = image + words_alone(tokens).sum() + (inner + 2) * pairs.sum() + head
    # A product of attention has two factors that depend on the input, a linear layer has one.
    backward = (words_alone(tokens) + (inner + 1) * pairs) @ [1, 2]
    total = count * (forward + backward + pair(tokens, patches, 1) + head)
    for (modality, left), number in subsets.items():
        if modality == "text":
            total += number * (words_alone(left).sum() + answer(left, patches))
        else:
            known = 3 * left * width**2  # linear layers on single tokens, before the gathering
            total += number * (answer(left, tokens) - known)
    return 2 * float(total) / count


def best_rate(now, repeats=10):
    """Floating-point operations per second of the machine's fastest matrix product."""
    rates = []
    for rows, inputs, outputs in ((2048, 768, 3072), (4096, 3072, 768), (4096, 4096, 4096)):
        a, b = torch.randn(rows, inputs), torch.randn(outputs, inputs)
        for _ in range(repeats):
            seconds, _ = timed(torch.matmul, a, b.T, now=now)
            rates.append(2 * rows * inputs * outputs / seconds)
    return max(rates)
