"""CLIP by its stock class (Radford et al. 2021): towers trained on pairs of text and image."""

import torch
from transformers import CLIPConfig, CLIPModel

from . import register_model
from .dual_encoders import DualEncoder
from .regions import additive_mask
from .stock import image_tokens


@register_model("clip", modalities=("text", "image"), stem=True, contrastive=True)
class Clip(DualEncoder):
    """Causal text tower, read at the end of the text; image tower, read at its class token.

    The arguments are those of `DualEncoder`.
    """

    architecture, config_class = CLIPModel, CLIPConfig
    causal_streams = ("text",)

    @property
    def embedding_width(self):
        return self.network.projection_dim

    def embed_image(self, batch):
        """Tokens of the patches, after a class token."""
        embeddings = self.network.vision_model.embeddings
        patches = embeddings.patch_embedding(batch.image).flatten(2).transpose(1, 2)
        cls = embeddings.class_embedding.expand(len(patches), 1, -1)
        values = torch.cat([cls, patches], 1) + embeddings.position_embedding.weight
        return image_tokens(values[batch.image_rows], special=1)

    def text_mask(self, valid, dtype):
        count = valid.shape[1]
        later = torch.ones(count, count, dtype=torch.bool, device=valid.device).triu(1)
        mask = additive_mask(valid, dtype).expand(-1, -1, count, -1)
        return mask.masked_fill(later, torch.finfo(dtype).min)

    def encode_image(self, image):
        network = self.network.vision_model
        mask = additive_mask(image.valid, image.values.dtype)
        x = network.pre_layrnorm(image.values)
        x = network.encoder(x, attention_mask=mask).last_hidden_state
        return network.post_layernorm(x)

    def pooled(self, hidden, modality):
        return hidden["end" if modality == "text" else "image"][:, 0]

    def embedding(self, hidden, modality):
        network = self.network
        project = network.text_projection if modality == "text" else network.visual_projection
        return project(self.pooled(hidden, modality))
