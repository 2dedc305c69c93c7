"""Layers of BERT (Devlin et al. 2018), by the names that checkpoints give their parts.

Post-norm with the exact GELU. A `config` has hidden_dropout_prob, attention_probs_dropout_prob and
layer_norm_eps.
"""

import torch.nn.functional as F
from torch import nn

from .few_tokens import few_keys, few_queries, is_usable, is_worth_it
from .layers import DotProductAttention, RecomputedLayer


class ProjectedAttention(DotProductAttention):
    """Multi-head attention with its input layers; its output layer is not part of it."""

    def __init__(self, width, heads, dropout):
        super().__init__(heads, dropout)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def forward(self, x, valid, context=None):
        """Queries x (B, N, D) read themselves, or a context (B, K, D); valid : bool (B, K)."""
        context = x if context is None else context
        return self.attend(self.query(x), *self.read(context), valid)

    def read(self, context):
        """Keys and values of a context."""
        return self.key(context), self.value(context)


class AddNorm(nn.Module):
    """LayerNorm(Linear(x) + residual)."""

    def __init__(self, inputs, width, config):
        super().__init__()
        self.dense = nn.Linear(inputs, width)
        self.LayerNorm = nn.LayerNorm(width, config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x, residual):
        return self.add(self.dense(x), residual)

    def add(self, x, residual):
        """The same of what has passed the linear layer."""
        return self.LayerNorm(self.dropout(x) + residual)


class AttentionBlock(nn.ModuleDict):
    """Attention, and what adds it to the stream."""

    def forward(self, x, valid, context):
        """States x (B, N, D) read a context (B, K, D), which may be their own; valid (B, K)."""
        attention, output = self["self"], self["output"]
        if is_usable(attention, output.dense):
            own, other = x.shape[1], context.shape[1]
            sizes = context.shape[2], attention.heads
            if is_worth_it(own, other, *sizes):
                return output(few_queries(attention, x, valid, context), x)
            if is_worth_it(other, own, *sizes):
                return output.add(few_keys(attention, output.dense, x, valid, context), x)
        return output(attention(x, valid, context), x)


class Dense(nn.Module):
    """Linear, GELU; with `eps` a LayerNorm after them."""

    def __init__(self, inputs, outputs, eps=None):
        super().__init__()
        self.dense = nn.Linear(inputs, outputs)
        self.LayerNorm = nn.Identity() if eps is None else nn.LayerNorm(outputs, eps)

    def forward(self, x):
        return self.LayerNorm(F.gelu(self.dense(x)))


class Layer(RecomputedLayer):
    """A layer of BERT, x (B, N, D) -> (B, N, D); with `cross` it reads another stream as well.

    Self-attention, cross-attention and feed-forward follow each other.
    """

    def __init__(self, width, heads, inner, config, cross=False):
        super().__init__()
        self.attention = attention_block(width, heads, config)
        if cross:
            self.crossattention = attention_block(width, heads, config)
        self.intermediate = Dense(width, inner)
        self.output = AddNorm(inner, width, config)

    def forward(self, x, valid, context=None, context_valid=None, read=None):
        """valid : bool (B, N), False for padding; context (B, K, D) and context_valid (B, K).

        read : how many states are wanted, those of the first tokens; None for all
        """
        x = self.attention(x[:, :read], valid, x)
        return self.after_itself(x, context, context_valid)

    def after_itself(self, x, context=None, context_valid=None):
        """The layer's states, from those after its self-attention."""
        if context is not None:
            x = self.crossattention(x, context_valid, context)
        return self.output(self.intermediate(x), x)

    @property
    def probabilities(self):
        """The leaf that the self-attention map passes."""
        return self.attention["self"].probabilities


def attention_block(width, heads, config):
    """Attention and what adds it to the stream, as checkpoints name them."""
    attention = ProjectedAttention(width, heads, config.attention_probs_dropout_prob)
    return AttentionBlock({"self": attention, "output": AddNorm(width, width, config)})
