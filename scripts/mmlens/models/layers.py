"""Building blocks of the from-scratch models: attention, transformer blocks, embeddings."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

PATCH = 16  # pixels per side of an image token: the product of the stem's strides


class RecomputedLayer(nn.Module):
    """A layer of which, with `recompute` set, training keeps only the inputs and the outputs.

    The backward pass computes the inside again, with the same dropout (gradient checkpointing, Chen
    et al. 2016): less memory, the same gradients.
    """

    recompute = False

    def __call__(self, *arguments, **keywords):
        if self.recompute and self.training and torch.is_grad_enabled():
            return checkpoint(super().__call__, *arguments, use_reentrant=False, **keywords)
        return super().__call__(*arguments, **keywords)


class DotProductAttention(nn.Module):
    """softmax(q k^T / sqrt(d)) v in heads of width d (Vaswani et al. 2017), without weights.

    Runs PyTorch's fused kernel, or, with `eager` set, the same sum written out, whose
    probabilities (B, H, Q, K) pass through the leaf module `probabilities` for hooks to see.

    Parameters
    ----------
    heads : number of heads
    dropout : share of the probabilities that training sets to 0
    """

    def __init__(self, heads, dropout=0.0):
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.probabilities = nn.Identity()
        self.eager = False

    def attend(self, query, key, value, valid):
        """Queries (B, Q, D), keys and values (B, K, D) -> what the queries read, (B, Q, D).

        valid : bool (B, K), False for context tokens that must not be attended to; every sample
        needs one that may.
        """
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (query, key, value))
        mask = valid[:, None, None, :]
        dropout = self.dropout if self.training else 0.0
        if self.eager:
            scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
            attention = scores.masked_fill(~mask, float("-inf")).softmax(-1)
            mixed = F.dropout(self.probabilities(attention), dropout) @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return mixed.transpose(1, 2).flatten(2)


class Attention(DotProductAttention):
    """Multi-head attention of queries x (B, Q, D) to a context (B, K, D)."""

    def __init__(self, width, heads):
        super().__init__(heads)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, x, context, valid):
        """valid : bool (B, K), False for context tokens that must not be attended to."""
        read = self.attend(self.query(x), self.key(context), self.value(context), valid)
        return self.output(read)


class FeedForward(nn.Sequential):
    """x -> Linear -> ReLU -> Linear, four times as wide inside; on a CPU GELU costs 15% more."""

    def __init__(self, width):
        super().__init__(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))


class Block(RecomputedLayer):
    """Pre-norm transformer block: self-attention, optional cross-attention, feed-forward."""

    def __init__(self, width, heads, cross=False):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        if cross:
            self.cross_norm = nn.LayerNorm(width)
            self.cross_attention = Attention(width, heads)
        self.feed_norm = nn.LayerNorm(width)
        self.feed = FeedForward(width)

    def forward(self, x, valid, context=None, context_valid=None, kind=0.0, read=None):
        """x (B, N, D) -> (B, N, D), or with `read` its first so many tokens only.

        valid : bool (B, N); context (B, K, D) and context_valid (B, K) for cross-attention;
        kind : (N, D) added to the normalised input of self-attention.
        """
        normed = self.norm(x) + kind
        x = x[:, :read] + self.attention(normed[:, :read], normed, valid)
        if context is not None:
            x = x + self.cross_attention(self.cross_norm(x), context, context_valid)
        return x + self.feed(self.feed_norm(x))


class CoAttention(RecomputedLayer):
    """Two streams that read each other's state from before the layer, then a feed-forward each.

    The exchange of ViLBERT (Lu et al. 2019, fig. 2), with pre-norm.
    """

    def __init__(self, width, heads):
        super().__init__()
        for stream in ("text", "image"):
            self.add_module(f"{stream}_norm", nn.LayerNorm(width))
            self.add_module(f"{stream}_attention", Attention(width, heads))
            self.add_module(f"{stream}_feed_norm", nn.LayerNorm(width))
            self.add_module(f"{stream}_feed", FeedForward(width))

    def forward(self, text, image, text_valid, image_valid):
        t, i = self.text_norm(text), self.image_norm(image)
        text = text + self.text_attention(t, i, image_valid)
        image = image + self.image_attention(i, t, text_valid)
        text = text + self.text_feed(self.text_feed_norm(text))
        return text, image + self.image_feed(self.image_feed_norm(image))


class Stem(nn.Sequential):
    """Small convolutional stem: pixels (B, 3, S, S) -> features (B, width, S/16, S/16).

    A token's receptive field is 62 pixels, so a token also knows a little of its neighbours.
    """

    def __init__(self, width):
        layers = []
        for inputs, outputs, kernel, stride in (
            (3, 32, 6, 4),
            (32, 64, 3, 2),
            (64, width, 3, 2),
            (width, width, 3, 1),
        ):
            layers += [
                nn.Conv2d(inputs, outputs, kernel, stride, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
            ]
        super().__init__(*layers)


class TextEmbedding(nn.Module):
    """Word plus position embedding: input_ids (B, T) -> (B, T, width)."""

    def __init__(self, vocabulary_size, width, max_length):
        super().__init__()
        self.words = nn.Embedding(vocabulary_size, width)
        self.positions = nn.Parameter(0.02 * torch.randn(max_length, width))

    def forward(self, input_ids):
        return self.words(input_ids) + self.positions[: input_ids.shape[1]]


class ImageEmbedding(nn.Module):
    """Stem, a leading class token and positions: pixels (B, 3, S, S) -> (B, 1 + P, width)."""

    def __init__(self, width, grid):
        super().__init__()
        self.stem = Stem(width)
        self.class_token = nn.Parameter(0.02 * torch.randn(width))
        self.positions = nn.Parameter(0.02 * torch.randn(1 + grid[0] * grid[1], width))

    def forward(self, pixels):
        patches = self.stem(pixels).flatten(2).transpose(1, 2)
        cls = self.class_token.expand(len(patches), 1, -1)
        return torch.cat([cls, patches], 1) + self.positions


class RegionEmbedding(nn.Module):
    """Frozen features after a class token: (B, N, features), (B, N, 4) -> (B, 1 + N, width).

    A region is the sum of two linear layers of its features and its box (x1, y1, x2, y2 and the
    area, as shares of the image), normalised, as in ViLBERT (Lu et al. 2019). The class token is
    learned, not the mean of the regions: it must know nothing of a region that is removed.
    """

    def __init__(self, width, features):
        super().__init__()
        self.features = nn.Linear(features, width)
        self.boxes = nn.Linear(5, width)
        self.norm = nn.LayerNorm(width)
        self.class_token = nn.Parameter(0.02 * torch.randn(width))

    def forward(self, features, boxes):
        sides = boxes[..., 2:] - boxes[..., :2]
        places = torch.cat([boxes, sides.prod(-1, keepdim=True)], -1)
        regions = self.norm(self.features(features) + self.boxes(places))
        cls = self.class_token.expand(len(regions), 1, -1)
        return torch.cat([cls, regions], 1)
