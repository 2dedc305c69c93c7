"""The unimodal baselines: one transformer encoder on the text alone or on the image alone."""

from torch import nn

from . import register_model
from .base import single
from .layers import Block
from .scratch import ScratchModel, self_edge


class Unimodal(ScratchModel):
    """Transformer on one modality, classification at its first token."""

    read_alone = 1

    def build(self, width, heads, layers=2):
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.final_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, self.outputs)

    @property
    def stream(self):
        return self.modalities[0]

    def alone(self, modality, tokens, read=None):
        x = tokens.values
        for block in self.blocks[:-1]:
            x = block(x, tokens.valid)
        return self.final_norm(self.blocks[-1](x, tokens.valid, read=read))

    def encode(self, tokens, read=None):
        return {m: own.values for m, own in self.prepare_all(tokens, read).items()}

    def classify(self, hidden):
        return single(self.head(hidden[self.stream][:, 0]))

    def edges(self):
        return [self_edge(block, self.stream) for block in self.blocks]

    def grad_cam_layers(self):
        return {self.stream: self.blocks[-1].norm}


@register_model("text_only", modalities=("text",))
class TextOnly(Unimodal):
    """Reads words only."""

    readouts = (("text", 0),)


@register_model("image_only", modalities=("image",), stem=True)
class ImageOnly(Unimodal):
    """Reads the stem's patches only."""

    readouts = (("image", 0),)
