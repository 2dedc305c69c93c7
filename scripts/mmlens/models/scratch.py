"""What the from-scratch models share: their embeddings, their masked words, their beginnings."""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import nn

from .base import Edge, Model, Tokens
from .layers import PATCH, ImageEmbedding, RegionEmbedding, TextEmbedding


class ScratchModel(Model):
    """Base of the from-scratch models: embeddings, one attention stream per modality, a head.

    Parameters
    ----------
    vocabulary_size : number of words of the tokenizer
    width, heads : of all attention layers
    image_size : side of the input images in pixels, a multiple of 16
    max_length : largest number of text tokens
    features : FeatureReader of the frozen features that take the place of pixels, or None
    outputs : 1 for the logit of label 1, else the number of answers
    """

    def __init__(
        self, vocabulary_size, width, heads, image_size, max_length, features=None, outputs=1
    ):
        super().__init__()
        self.outputs = outputs
        self.grid = features.grid if features else (image_size // PATCH, image_size // PATCH)
        if "text" in self.modalities:
            self.text = TextEmbedding(vocabulary_size, width, max_length)
        if "image" in self.modalities:
            frozen = self.frozen
            self.image = (
                RegionEmbedding(width, features.width)
                if frozen
                else ImageEmbedding(width, self.grid)
            )
        self.build(width, heads)
        if self.masked_words:
            self.word_bias = nn.Parameter(torch.zeros(vocabulary_size))
        self.apply(initialise)

    @abstractmethod
    def build(self, width, heads):
        """Create the layers after the embeddings."""

    @property
    def image_stem(self):
        """The stem of the image embedding, if there is one."""
        return self.image.stem if "image" in self.modalities and not self.frozen else None

    def embed_text(self, batch):
        """Tokens of the words."""
        return Tokens(self.text(batch.input_ids), batch.text_valid, batch.text_content)

    def embed_image(self, batch):
        """Tokens of the patches or regions, after a class token."""
        if self.frozen:
            values = self.image(batch.image, batch.boxes)[batch.image_rows]
            content = F.pad(batch.image_valid[batch.image_rows], (1, 0))
        else:
            values = self.image(batch.image)[batch.image_rows]
            content = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
        content[:, 0] = False
        valid = content.clone()
        valid[:, 0] = True
        return Tokens(values, valid, content)

    @abstractmethod
    def encode(self, tokens, read=None):
        """As of every model; with `read` only the first so many tokens of every stream, and only
        those of the last layer are computed."""

    def logits(self, tokens):
        return self.classify(self.encode(tokens, read=1))

    def word_states(self, tokens):
        return self.encode(tokens, read=tokens["text"].values.shape[1])

    def word_logits(self, hidden, tokens):
        """Scores of every word at every text position, (B, T, vocabulary), for masked words."""
        span = self.layout(tokens).spans["text"]
        return hidden[span.stream][:, span.slice] @ self.text.words.weight.T + self.word_bias


def initialise(module):
    """Xavier-uniform linear layers with zero biases, embeddings of sd 1 / sqrt(width)."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)


def self_edge(block, stream):
    """The edge of a block's self-attention."""
    return Edge(block.attention.probabilities, stream, stream)
