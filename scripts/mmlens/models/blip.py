"""BLIP by its stock class (Li et al. 2022): image tower, text encoder that may read the image."""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import BlipConfig, BlipForImageTextRetrieval

from ..datasets.vocabulary import CLS, PAD, SEP
from . import register_model
from .base import Edge, Tokens, single
from .folders import folder_of, weights_file
from .layers import PATCH, Stem
from .regions import additive_mask, check_fits, run_needs
from .released import load_released
from .stock import (
    MOST_TOKENS,
    StockModel,
    check_geometry,
    checkpoint_inputs,
    difference,
    image_tokens,
    probabilities,
    stock_config,
)

IMAGE_LAYERS, TEXT_LAYERS = 2, 3  # of a network that starts from scratch
HEADS = ("itm_head", "vision_proj", "text_proj")  # of the stock class
# What files hold for which a network may have no place: heads that it does not read, the decoder
# of captions and answers, and a buffer of other versions.
KNOWN = (*(f"{head}." for head in HEADS), "text_decoder.", "text_encoder.embeddings.position_ids")
TEMPERATURE = 0.07  # of the contrastive loss at its start; files do not hold the trained one


class BlipModel(StockModel):
    """Base of the models on `BlipForImageTextRetrieval`; of its parts they keep what they read.

    Parameters
    ----------
    vocabulary_size, max_length : number of words and of text tokens
    features : not used
    width, heads : of a network that starts from scratch: 2 layers for the image, on the
        convolutional stem, and 3 for the text
    image_size : of a network that starts from scratch; else that of its config
    weights : folder of save_pretrained, or a file; None to start from scratch
    outputs : 1 for the logit of label 1, else the number of answers
    sizes : {key of BlipConfig: value}, over those of the weights or of the width, such as
        {text_config: {num_hidden_layers: 6}}
    kept : names of HEADS that the model reads
    """

    reads_image = True  # whether the words attend to the image

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
        kept=(),
    ):
        super().__init__()
        run = small_sizes(vocabulary_size, max_length, width, heads, image_size)
        config = stock_config(BlipConfig, weights, {}, run, sizes)
        check_fits(self.name, config.text_config, least=run_needs(vocabulary_size, max_length))
        config.text_config.is_decoder = self.reads_image  # says whether there is cross-attention
        self.first_id = None if weights is None else image_grounded(config.text_config)
        image = config.vision_config
        self.grid = (image.image_size // image.patch_size,) * 2
        self.outputs = outputs
        self.network = BlipForImageTextRetrieval(config)
        for head in HEADS:
            if head not in kept:
                setattr(self.network, head, None)
        if weights is None:
            self.network.vision_model.embeddings.patch_embedding = Stem(image.hidden_size)
        else:
            self.report = load_blip(self.network, weights_file(weights))

    @classmethod
    def input_spec(cls, settings, tokenizer, max_length=None):
        weights = settings.get("weights")
        if weights is None:
            return super().input_spec(settings, tokenizer, max_length)
        config = stock_config(BlipConfig, weights, {}, {}, settings.get("sizes"))
        most = min(MOST_TOKENS, config.text_config.max_position_embeddings)
        folder = folder_of(weights)
        spec = checkpoint_inputs(folder, tokenizer, max_length, cls.modalities, True, most=most)
        check_geometry(weights, spec.geometry, config.vision_config.image_size)
        return spec

    @property
    def image_stem(self):
        patches = self.network.vision_model.embeddings.patch_embedding
        return patches if isinstance(patches, Stem) else None

    def embed_text(self, batch):
        """Tokens of the words, the first of which is [ENC] where they see the image."""
        ids = batch.input_ids
        if self.reads_image and self.first_id is not None:
            ids = ids.clone()
            ids[:, 0] = self.first_id
        values = self.network.text_encoder.embeddings(ids)
        return Tokens(values, batch.text_valid, batch.text_content)

    def embed_image(self, batch):
        """Tokens of the patches, after a class token."""
        embeddings = self.network.vision_model.embeddings
        patches = embeddings.patch_embedding(batch.image).flatten(2).transpose(1, 2)
        cls = embeddings.class_embedding.expand(len(patches), -1, -1)
        values = torch.cat([cls, patches], 1) + embeddings.position_embedding
        return image_tokens(values[batch.image_rows], special=1)

    def alone(self, modality, tokens):
        """The stock image tower masks nothing: of an image there is no padding."""
        if modality == "image":
            vision = self.network.vision_model
            return vision.post_layernorm(vision.encoder(tokens.values).last_hidden_state)
        return None if self.reads_image else self.encode_words(tokens)

    def encode_words(self, text, **read):
        """Last states (B, T, D) of the words; read : what they read beside themselves."""
        mask = additive_mask(text.valid, text.values.dtype)
        encoder = self.network.text_encoder.encoder
        return encoder(text.values, attention_mask=mask, **read).last_hidden_state

    def encode(self, tokens):
        tokens = self.prepare_all(tokens)
        text, image = tokens["text"], tokens["image"]
        words = text.values
        if self.reads_image:
            mask = additive_mask(image.valid, image.values.dtype)
            words = self.encode_words(
                text, encoder_hidden_states=image.values, encoder_attention_mask=mask
            )
        return {"text": words, "image": image.values}

    def edges(self):
        image = self.network.vision_model.encoder.layers
        edges = [Edge(probabilities(layer.self_attn), "image", "image") for layer in image]
        for layer in self.network.text_encoder.encoder.layer:
            edges.append(Edge(probabilities(layer.attention.self), "text", "text"))
            if self.reads_image:
                edges.append(Edge(probabilities(layer.crossattention.self), "text", "image"))
        return edges

    def text_layer(self):
        """What the last text layer reads: after it only the first token reaches the head."""
        encoder = self.network.text_encoder
        before = [encoder.embeddings, *(layer.output for layer in encoder.encoder.layer)]
        return before[-2].LayerNorm


@register_model("blip", modalities=("text", "image"), stem=True)
class Blip(BlipModel):
    """The words attend to the image in every layer; the head reads the first of them.

    Answers are classes here. The published network for VQA writes them word by word, which is
    another task; its encoder can be read as weights.

    Parameters beside those of `BlipModel`
    ----------
    head : "classifier", a perceptron of two layers; "matching", the published one of two classes,
        which says whether text and image belong together, for zero-shot use and fine-tuning
    """

    def __init__(self, *run, head="classifier", outputs=1, weights=None, **options):
        if head not in ("classifier", "matching"):
            raise ValueError(f"blip: head: found {head!r}, expected classifier or matching")
        if head == "matching" and outputs > 1:
            raise ValueError(
                f"blip: head: found matching, which has two classes, but the run has {outputs} "
                "answers; expected classifier"
            )
        kept = ("itm_head",) if head == "matching" else ()
        super().__init__(*run, outputs=outputs, weights=weights, kept=kept, **options)
        self.head = head
        own = self.network.config.text_config
        if head == "classifier":
            self.classifier = nn.Sequential(
                nn.Linear(own.hidden_size, own.hidden_size),
                nn.ReLU(),
                nn.Linear(own.hidden_size, outputs),
            )
        if weights is not None:
            self.report_fresh("classifier")
            print(self.report)
        # From scratch, masked words teach what the image shows; files have no head for them.
        self.masked_words = weights is None
        if self.masked_words:
            self.word_bias = nn.Parameter(torch.zeros(own.vocab_size))

    def classify(self, hidden):
        first = hidden["text"][:, 0]
        if self.head == "matching":
            return difference(self.network.itm_head(first))
        return single(self.classifier(first))

    def word_logits(self, hidden, tokens):
        """Scores of every word at every text position, (B, T, vocabulary), for masked words."""
        words = self.network.text_encoder.embeddings.word_embeddings
        return hidden["text"] @ words.weight.T + self.word_bias

    def grad_cam_layers(self):
        return {"text": self.text_layer(), "image": self.network.vision_model.post_layernorm}


@register_model("blip_contrastive", modalities=("text", "image"), stem=True, contrastive=True)
class BlipContrastive(BlipModel):
    """Text and image encoded apart; the logit is the scaled cosine of their embeddings.

    For zero-shot use and for training on pairs. The scale, which files do not hold, starts at the
    inverse of BLIP's initial temperature. The arguments are those of `BlipModel`.
    """

    readouts = (("text", 0), ("image", 0))
    reads_image, pair_logit = False, True

    def __init__(self, *run, outputs=1, weights=None, **options):
        if outputs > 1:
            raise ValueError(
                f"blip_contrastive: found {outputs} answers, but a cosine is one number; use blip"
            )
        super().__init__(*run, weights=weights, kept=("vision_proj", "text_proj"), **options)
        if weights is not None:
            print(self.report)
        self.log_scale = nn.Parameter(torch.tensor(1 / TEMPERATURE).log())

    def embeddings(self, hidden):
        """Normalised embeddings (B, D) of texts and images."""
        text = self.network.text_proj(hidden["text"][:, 0])
        image = self.network.vision_proj(hidden["image"][:, 0])
        return F.normalize(text, dim=-1), F.normalize(image, dim=-1)

    def classify(self, hidden):
        text, image = self.embeddings(hidden)
        return (text * image).sum(-1) * self.log_scale.exp()

    def pair_embeddings(self, tokens):
        """Normalised embeddings (B, D) of texts and images, scale of their cosines, no bias."""
        return *self.embeddings(self.encode(tokens)), self.log_scale.exp(), None

    def grad_cam_layers(self):
        image = self.network.vision_model.encoder.layers[-1].layer_norm1
        return {"text": self.text_layer(), "image": image}


def small_sizes(vocabulary_size, max_length, width, heads, image_size):
    """Sizes of a network that starts from scratch, by the keys of BlipConfig."""
    tower = {
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "initializer_range": width**-0.5,
    }
    words = {"bos_token_id": CLS, "eos_token_id": SEP, "sep_token_id": SEP, "pad_token_id": PAD}
    words |= {"vocab_size": vocabulary_size, "max_position_embeddings": max_length}
    image = {"image_size": image_size, "patch_size": PATCH}
    return {
        "image_text_hidden_size": width,
        "initializer_range": width**-0.5,
        "text_config": {**tower, **words, "num_hidden_layers": TEXT_LAYERS},
        "vision_config": {**tower, **image, "num_hidden_layers": IMAGE_LAYERS},
    }


def image_grounded(config):
    """Number of [ENC], which stands in the place of [CLS] where the words see the image.

    The published vocabulary is BERT's, then [DEC], which begins captions, then [ENC] (Li et al.
    2022). The stock class leaves the exchange to its caller. None for other vocabularies.
    """
    return config.vocab_size - 1 if config.bos_token_id == config.vocab_size - 2 else None


def load_blip(network, path):
    """Fill a `BlipForImageTextRetrieval`, or what is left of it, with a file; a `LoadReport`.

    The files: those of the classes of transformers.

    Raises
    ------
    DataError naming every tensor that is missing, unexpected or of another shape.
    """
    layers = range(len(network.text_encoder.encoder.layer))
    crosses = (f"text_encoder.encoder.layer.{k}.crossattention." for k in layers)
    known = (*KNOWN, *crosses)
    return load_released(
        network, path, rename=lambda name: name, parts=(), required=(), known=known
    )
