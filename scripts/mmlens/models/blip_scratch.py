"""Text layers with cross-attention to image tokens, as in BLIP's matching head (Li et al. 2022)."""

from torch import nn

from . import register_model
from .base import Edge, single
from .layers import Block
from .scratch import ScratchModel, self_edge


@register_model("blip_scratch", modalities=("text", "image"), stem=True)
class BlipScratch(ScratchModel):
    """Image transformer, then text blocks that read it; classification at the text's [CLS]."""

    masked_words = True

    def build(self, width, heads, image_layers=2, text_layers=3):
        self.image_blocks = nn.ModuleList(Block(width, heads) for _ in range(image_layers))
        self.image_norm = nn.LayerNorm(width)
        self.text_blocks = nn.ModuleList(
            Block(width, heads, cross=True) for _ in range(text_layers)
        )
        self.text_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, self.outputs)

    def alone(self, modality, tokens):
        if modality == "text":
            return None
        seen = tokens.values
        for block in self.image_blocks:
            seen = block(seen, tokens.valid)
        return self.image_norm(seen)

    def encode(self, tokens, read=None):
        tokens = self.prepare_all(tokens)
        text, image = tokens["text"], tokens["image"]
        x = text.values
        for block in self.text_blocks[:-1]:
            x = block(x, text.valid, image.values, image.valid)
        x = self.text_blocks[-1](x, text.valid, image.values, image.valid, read=read)
        return {"text": self.text_norm(x), "image": image.values[:, :read]}

    def classify(self, hidden):
        return single(self.head(hidden["text"][:, 0]))

    def edges(self):
        edges = [self_edge(block, "image") for block in self.image_blocks]
        for block in self.text_blocks:
            edges.append(self_edge(block, "text"))
            edges.append(Edge(block.cross_attention.probabilities, "text", "image"))
        return edges

    def grad_cam_layers(self):
        return {"text": self.text_blocks[-1].norm, "image": self.image_norm}
