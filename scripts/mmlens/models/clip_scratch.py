"""Two towers that meet only at the end, as in CLIP with an MLP head on both embeddings."""

import torch
import torch.nn.functional as F
from torch import nn

from . import register_model
from .base import single
from .layers import Block
from .scratch import ScratchModel, self_edge


@register_model("clip_scratch", modalities=("text", "image"), stem=True, contrastive=True)
class ClipScratch(ScratchModel):
    """Text and image transformer; MLP on the two class tokens and their product.

    With the contrastive objective the class tokens alone are trained, as embeddings.
    """

    readouts = (("text", 0), ("image", 0))
    read_alone = 1

    def build(self, width, heads, layers=3):
        self.towers = nn.ModuleDict(
            {m: nn.ModuleList(Block(width, heads) for _ in range(layers)) for m in self.modalities}
        )
        self.norms = nn.ModuleDict({m: nn.LayerNorm(width) for m in self.modalities})
        self.head = nn.Sequential(
            nn.Linear(3 * width, width), nn.GELU(), nn.Linear(width, self.outputs)
        )

        # Of the contrastive objective; it starts at the inverse of CLIP's temperature.
        self.log_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    def alone(self, modality, tokens, read=None):
        x = tokens.values
        *blocks, last = self.towers[modality]
        for block in blocks:
            x = block(x, tokens.valid)
        return self.norms[modality](last(x, tokens.valid, read=read))

    def encode(self, tokens, read=None):
        return {m: own.values for m, own in self.prepare_all(tokens, read).items()}

    def classify(self, hidden):
        text, image = hidden["text"][:, 0], hidden["image"][:, 0]
        return single(self.head(torch.cat([text, image, text * image], -1)))

    def pair_embeddings(self, tokens):
        """Normalised embeddings (B, D) of texts and images, scale of their cosines, no bias."""
        hidden = self.encode(tokens, read=1)
        text, image = (F.normalize(hidden[m][:, 0], dim=-1) for m in ("text", "image"))
        return text, image, self.log_scale.exp(), None

    def edges(self):
        return [self_edge(b, modality) for modality, blocks in self.towers.items() for b in blocks]

    def grad_cam_layers(self):
        return {modality: blocks[-1].norm for modality, blocks in self.towers.items()}
