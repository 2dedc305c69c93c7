"""SigLIP and SigLIP 2 of fixed resolution by their stock class (Zhai et al. 2023)."""

import json
import math
import string
from dataclasses import replace

import torch
import torch.nn.functional as F
from tokenizers import Regex, normalizers
from transformers import PreTrainedTokenizerFast, SiglipConfig, SiglipModel

from ..table import DataError
from . import register_model
from .base import Edge
from .dual_encoders import DualEncoder
from .folders import folder_of
from .layers import DotProductAttention
from .regions import additive_mask, some_region
from .stock import image_tokens, stock_config


@register_model("siglip", modalities=("text", "image"), stem=True, contrastive=True)
class Siglip(DualEncoder):
    """Text tower, read at the last of a fixed number of tokens; image tower without class token.

    The image is read by a learned query that attends to all patches: the stream "pooling", which
    has that one row. An image whose patches are all removed shows one of zeros. Published, texts
    are lower-case and filled up to 64 tokens with padding that is read as words are; from scratch,
    a text is read at its own end. The arguments are those of `DualEncoder`.
    """

    architecture, config_class = SiglipModel, SiglipConfig
    # Its own class is for one of the two tokenizers and needs sentencepiece.
    tokenizer_class = PreTrainedTokenizerFast
    image_readout = ("pooling", 0)

    def __init__(self, *sizes, weights=None, **options):
        super().__init__(*sizes, weights=weights, **options)
        self.pooling = DotProductAttention(self.network.config.vision_config.num_attention_heads)
        if weights is None:
            # As published; the stock class starts at 0.
            with torch.no_grad():
                self.network.logit_scale.fill_(math.log(10))
                self.network.logit_bias.fill_(-10)

    @classmethod
    def input_spec(cls, settings, tokenizer, max_length=None):
        spec = super().input_spec(settings, tokenizer, max_length)
        if settings.get("weights") is None:
            return spec
        config = stock_config(cls.config_class, settings["weights"], {}, {}, settings.get("sizes"))
        most = config.text_config.max_position_embeddings
        if spec.max_length != most:
            problem = (
                f"{cls.name}: max_length: found {spec.max_length}, expected {most}, the number of "
                "tokens that it was trained with; set it to null"
            )
            raise DataError("variants", [problem])
        return as_trained(spec, folder_of(settings["weights"]))

    @property
    def embedding_width(self):
        return self.network.config.vision_config.hidden_size

    def embed_image(self, batch):
        """Tokens of the patches."""
        embeddings = self.network.vision_model.embeddings
        patches = embeddings.patch_embedding(batch.image).flatten(2).transpose(1, 2)
        values = patches + embeddings.position_embedding.weight
        return image_tokens(values[batch.image_rows], special=0)

    def text_mask(self, valid, dtype):
        return additive_mask(valid, dtype)

    def encode_image(self, image):
        network = self.network.vision_model
        values, seen = some_region(image.values, image.valid)
        x = network.encoder(values, attention_mask=additive_mask(seen, values.dtype))
        return network.post_layernorm(x.last_hidden_state)

    def encode(self, tokens):
        hidden = super().encode(tokens)
        if "image" in tokens:
            image, x = tokens["image"], hidden["image"]
            seen = some_region(image.values, image.valid)[1]
            x = F.pad(x, (0, 0, 0, seen.shape[1] - x.shape[1]))  # if all states were removed
            hidden |= {"image": x, "pooling": self.pool(x, seen)}
        return hidden

    def pool(self, x, valid):
        """The pooling head of the stock class, (B, 1, D), with its map for hooks to see."""
        head = self.network.vision_model.head
        own = head.attention
        query = head.probe.expand(len(x), -1, -1)
        weights, biases = own.in_proj_weight.chunk(3), own.in_proj_bias.chunk(3)
        parts = map(F.linear, (query, x, x), weights, biases)
        pooled = own.out_proj(self.pooling.attend(*parts, valid))
        return pooled + head.mlp(head.layernorm(pooled))

    def pooled(self, hidden, modality):
        return hidden["end" if modality == "text" else "pooling"][:, 0]

    def embedding(self, hidden, modality):
        pooled = self.pooled(hidden, modality)
        return self.network.text_model.head(pooled) if modality == "text" else pooled

    def layout(self, tokens):
        layout = super().layout(tokens)
        if "image" in tokens:
            image = tokens["image"]
            seen = some_region(image.values, image.valid)[1]
            layout.valid.update(image=seen, pooling=torch.ones_like(seen[:, :1]))
        return layout

    def edges(self):
        pooling = [Edge(self.pooling.probabilities, "pooling", "image")]
        return super().edges() + (pooling if "image" in self.towers else [])

    def grad_cam_layers(self):
        """For the image, what the pooling reads: all patches reach it."""
        layers = super().grad_cam_layers()
        if "image" in self.towers:
            layers["image"] = self.network.vision_model.post_layernorm
        return layers


def as_trained(spec, folder):
    """`InputSpec` with texts as SigLIP was trained on: lower-case, filled up with padding.

    The first SigLIP, known by its tokenizer, was trained without punctuation as well. Tokenizers
    that do this themselves give the same.

    Raises
    ------
    DataError if the tokenizer has no padding token.
    """
    beside = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    if "pad_token" not in beside:
        problem = f"{folder}/tokenizer_config.json: no pad_token, which texts are filled up with"
        raise DataError("weights", [problem])
    steps = [normalizers.Lowercase()]
    if beside.get("tokenizer_class", "").startswith("SiglipTokenizer"):
        punctuation = "[" + "".join(f"\\{mark}" for mark in string.punctuation) + "]"
        steps += [
            normalizers.Replace(Regex(punctuation), ""),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
    if spec.tokenizer.normalizer is not None:
        steps.append(spec.tokenizer.normalizer)
    spec.tokenizer.normalizer = normalizers.Sequence(steps)
    return replace(spec, fill=True)
