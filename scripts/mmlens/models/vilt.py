"""ViLT: words and patches in one transformer, by its stock class (Kim et al. 2021)."""

from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from transformers import ViltConfig, ViltForQuestionAnswering
from transformers.models.vilt.modeling_vilt import ViltMLMHead

from ..datasets.answers import published_vocabulary
from ..features.base import Geometry
from . import register_model
from .base import Edge, SingleStream, Tokens, single
from .folders import folder_of
from .layers import PATCH, Stem
from .regions import additive_mask, check_fits, run_needs
from .released import load_released
from .stock import (
    CLASSES,
    StockModel,
    checkpoint_inputs,
    difference,
    image_tokens,
    probabilities,
    stock_config,
)

TRUNK, HEAD, MATCHING, WORDS = "vilt.", "classifier.", "rank_output.", "mlm_score."
PARTS = (TRUNK, HEAD, MATCHING, WORDS)
POSITIONS = "vilt.embeddings.text_embeddings.position_ids"  # a buffer of other versions


@register_model("vilt", modalities=("text", "image"), stem=True)
class Vilt(SingleStream, StockModel):
    """One transformer over [words, class token, patches]; heads on the pooled first word.

    The stock forward pass shuffles the patches at random, and leaves out some if there are many;
    here all are taken, in their order. Images are stretched to a square; in the published
    preprocessing they keep their aspect ratio, with up to 640 pixels on the longer side.

    Parameters
    ----------
    vocabulary_size, max_length : number of words and of text tokens
    features : not used
    width, heads : of a network that starts from scratch: 4 layers on the convolutional stem
    image_size : of a network that starts from scratch; else that of its config, 384
    weights : folder of save_pretrained, or a file; None to start from scratch
    outputs : 1 for the logit of label 1, else the number of answers
    sizes : {key of ViltConfig: value}, over those of the weights or of the width
    head : "classifier", of two classes or all answers; "matching", the published logit that text
        and image belong together, for zero-shot use
    answers : file of the answers that the outputs of the classifier in `weights` stand for, in
        order, if they are not the 3,129 published ones
    """

    def __init__(
        self,
        vocabulary_size,
        max_length,
        features=None,
        width=128,
        heads=4,
        image_size=None,
        *,
        weights=None,
        outputs=1,
        sizes=None,
        head="classifier",
        answers=None,
    ):
        super().__init__()
        if head not in ("classifier", "matching"):
            raise ValueError(f"vilt: head: found {head!r}, expected classifier or matching")
        run = small_sizes(vocabulary_size, max_length, width, heads, image_size)
        config = stock_config(ViltConfig, weights, {}, run, sizes)
        check_fits(self.name, config, least=run_needs(vocabulary_size, max_length))
        config.num_labels = CLASSES if outputs == 1 else outputs
        self.grid = (config.image_size // config.patch_size,) * 2
        self.outputs, self.head = outputs, head
        # Published fine-tuning has no masked words; from scratch they teach what the image shows.
        self.masked_words = weights is None
        self.network = ViltForQuestionAnswering(config)
        if head == "matching":
            self.network.rank_output = nn.Linear(config.hidden_size, 1)
        if weights is None:
            self.network.mlm_score = ViltMLMHead(config).apply(self.network._init_weights)
            embeddings = self.network.vilt.embeddings
            embeddings.patch_embeddings.projection = Stem(config.hidden_size)
        else:
            required = (TRUNK, MATCHING) if head == "matching" else (TRUNK,)
            load = partial(load_vilt, required=required)
            self.read(load, weights, HEAD, answers, published_vocabulary("vilt"))

    @classmethod
    def input_spec(cls, settings, tokenizer, max_length=None):
        weights = settings.get("weights")
        if weights is None:
            return super().input_spec(settings, tokenizer, max_length)
        config = stock_config(ViltConfig, weights, {}, {}, settings.get("sizes"))
        most = config.max_position_embeddings
        folder = folder_of(weights)
        spec = checkpoint_inputs(folder, tokenizer, max_length, cls.modalities, False, most=most)
        geometry = Geometry(config.image_size, config.image_size)
        half = (0.5, 0.5, 0.5)  # of both, as published
        return replace(spec, geometry=geometry, mean=half, std=half)

    @property
    def image_stem(self):
        projection = self.network.vilt.embeddings.patch_embeddings.projection
        return projection if isinstance(projection, Stem) else None

    def published_answers(self):
        return self.network.classifier[-1], self.answers

    def embed_text(self, batch):
        """Tokens of the words."""
        embeddings = self.network.vilt.embeddings
        kind = embeddings.token_type_embeddings.weight[0]
        values = embeddings.text_embeddings(batch.input_ids) + kind
        return Tokens(values, batch.text_valid, batch.text_content)

    def embed_image(self, batch):
        """Tokens of the patches, after a class token."""
        embeddings = self.network.vilt.embeddings
        patches = embeddings.patch_embeddings.projection(batch.image).flatten(2).transpose(1, 2)
        cls = embeddings.cls_token.expand(len(patches), -1, -1)
        x = torch.cat([cls, patches], 1) + embeddings.position_embeddings
        values = embeddings.dropout(x) + embeddings.token_type_embeddings.weight[1]
        return image_tokens(values[batch.image_rows], special=1)

    def encode(self, tokens):
        text, image = tokens["text"], tokens["image"]
        x = torch.cat([text.values, image.values], 1)
        mask = additive_mask(torch.cat([text.valid, image.valid], 1), x.dtype)
        x = self.network.vilt.encoder(x, attention_mask=mask).last_hidden_state
        return {"joint": self.network.vilt.layernorm(x)}

    def classify(self, hidden):
        pooled = self.network.vilt.pooler(hidden["joint"])
        if self.head == "matching":
            return single(self.network.rank_output(pooled))
        scores = self.network.classifier(pooled)
        return difference(scores) if self.outputs == 1 else scores

    def word_logits(self, hidden, tokens):
        """Scores of every word at every text position, (B, T, vocabulary), for masked words."""
        return self.network.mlm_score(hidden["joint"][:, : tokens["text"].values.shape[1]])

    def edges(self):
        attentions = [layer.attention.attention for layer in self.network.vilt.encoder.layer]
        return [Edge(probabilities(attention), "joint", "joint") for attention in attentions]

    def grad_cam_layers(self):
        """What the last layer reads: after it only the first token reaches the classifier."""
        return dict.fromkeys(self.modalities, self.network.vilt.encoder.layer[-1].layernorm_before)


def small_sizes(vocabulary_size, max_length, width, heads, image_size):
    """Sizes of a network that starts from scratch, by the keys of ViltConfig."""
    return {
        "vocab_size": vocabulary_size,
        "max_position_embeddings": max_length,
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_hidden_layers": 4,
        "intermediate_size": 4 * width,
        "image_size": image_size,
        "patch_size": PATCH,
        "initializer_range": width**-0.5,
    }


def load_vilt(network, path, fitted=(HEAD,), fresh=(), required=(TRUNK,)):
    """Fill a `ViltForQuestionAnswering` with the file of any class of ViLT; a `LoadReport`.

    Raises
    ------
    DataError naming every tensor of the trunk that is missing or unexpected, every head that is
    there in part, and every other shape.
    """
    return load_released(
        network,
        path,
        rename=published_name,
        parts=PARTS,
        required=required,
        known=(*PARTS[1:], POSITIONS),
        fitted=fitted,
        fresh=fresh,
        adapt={"vilt.embeddings.position_embeddings": partial(resized, network)},
    )


def published_name(name):
    """The name in `ViltForQuestionAnswering` of a tensor of the trunk alone or with a head."""
    return name if name.startswith(PARTS) else TRUNK + name


def resized(network, positions):
    """Positions (1, 1 + P, D) of a file for the network's grid of patches, as published: bilinear,
    corners kept, the class token's as it is."""
    own = network.vilt.embeddings.position_embeddings.shape[1]
    if positions.shape[1] == own:
        return positions
    old, new = (round((count - 1) ** 0.5) for count in (positions.shape[1], own))
    grid = positions[:, 1:].transpose(1, 2).unflatten(2, (old, old))
    grid = F.interpolate(grid, size=(new, new), mode="bilinear", align_corners=True)
    return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], 1)
