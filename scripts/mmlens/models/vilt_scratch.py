"""Single stream: words and patches in one transformer, as in ViLT (Kim et al. 2021)."""

import torch
from torch import nn

from . import register_model
from .base import SingleStream, single
from .layers import Block
from .scratch import ScratchModel, self_edge


@register_model("vilt_scratch", modalities=("text", "image"), stem=True)
class ViltScratch(SingleStream, ScratchModel):
    """One transformer over [text tokens, image tokens]; classification at the text's [CLS]."""

    masked_words = True

    def build(self, width, heads, layers=4):
        # Added before every self-attention: a kind added once at the input fades, the shared
        # layers confuse words with patches, and the model stays at what colours alone give.
        self.kinds = nn.Parameter(0.5 * torch.randn(2, width))
        self.norms = nn.ModuleDict({m: nn.LayerNorm(width) for m in self.modalities})
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.final_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, self.outputs)

    def encode(self, tokens, read=None):
        text, image = tokens["text"], tokens["image"]
        x = torch.cat([self.norms["text"](text.values), self.norms["image"](image.values)], 1)
        valid = torch.cat([text.valid, image.valid], 1)
        sizes = torch.tensor([text.values.shape[1], image.values.shape[1]], device=x.device)
        kind = self.kinds.repeat_interleave(sizes, 0)
        for block in self.blocks[:-1]:
            x = block(x, valid, kind=kind)
        return {"joint": self.final_norm(self.blocks[-1](x, valid, kind=kind, read=read))}

    def classify(self, hidden):
        return single(self.head(hidden["joint"][:, 0]))

    def edges(self):
        return [self_edge(block, "joint") for block in self.blocks]

    def grad_cam_layers(self):
        return dict.fromkeys(self.modalities, self.blocks[-1].norm)
