"""Two streams that exchange by co-attention, as in ViLBERT (Lu et al. 2019)."""

from torch import nn

from . import register_model
from .base import Edge, Parallel, single
from .layers import Block, CoAttention
from .scratch import ScratchModel, self_edge


@register_model("vilbert_scratch", modalities=("text", "image"), stem=True)
class VilbertScratch(ScratchModel):
    """A text block, then co-attention and a self-attention block per stream, repeated.

    Classification on the product of the pooled first tokens of both streams.
    """

    masked_words = True
    readouts = (("text", 0), ("image", 0))

    def build(self, width, heads, layers=2):
        self.text_block = Block(width, heads)
        self.exchanges = nn.ModuleList(CoAttention(width, heads) for _ in range(layers))
        self.text_blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.image_blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norms = nn.ModuleDict({m: nn.LayerNorm(width) for m in self.modalities})
        self.poolers = nn.ModuleDict({m: nn.Linear(width, width) for m in self.modalities})
        self.head = nn.Linear(width, self.outputs)

    def alone(self, modality, tokens):
        return self.text_block(tokens.values, tokens.valid) if modality == "text" else None

    def encode(self, tokens, read=None):
        tokens = self.prepare_all(tokens)
        text, image = tokens["text"], tokens["image"]
        t, i = text.values, image.values
        layers = zip(self.exchanges, self.text_blocks, self.image_blocks, strict=True)
        for exchange, text_block, image_block in layers:
            t, i = exchange(t, i, text.valid, image.valid)
            first = read if exchange is self.exchanges[-1] else None
            t = text_block(t, text.valid, read=first)
            i = image_block(i, image.valid, read=first)
        return {"text": self.norms["text"](t), "image": self.norms["image"](i)}

    def classify(self, hidden):
        text, image = (self.poolers[m](hidden[m][:, 0]).relu() for m in self.modalities)
        return single(self.head(text * image))

    def edges(self):
        edges = [self_edge(self.text_block, "text")]
        layers = zip(self.exchanges, self.text_blocks, self.image_blocks, strict=True)
        for exchange, text_block, image_block in layers:
            reads_image = Edge(exchange.text_attention.probabilities, "text", "image")
            reads_text = Edge(exchange.image_attention.probabilities, "image", "text")
            edges += [
                Parallel((reads_image, reads_text)),
                self_edge(text_block, "text"),
                self_edge(image_block, "image"),
            ]
        return edges

    def grad_cam_layers(self):
        return {"text": self.text_blocks[-1].norm, "image": self.image_blocks[-1].norm}
