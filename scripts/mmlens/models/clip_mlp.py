"""A perceptron on what a frozen CLIP or SigLIP says of the text, the image, or both."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from ..table import DataError
from . import register_model
from .base import single
from .clip import Clip
from .folders import settings_beside
from .released import ReleasedModel
from .siglip import Siglip

ENCODERS = {"clip": Clip, "siglip": Siglip}  # by model_type of config.json
READS = {"text": ("text",), "image": ("image",), "both": ("text", "image")}
HIDDEN = {"concat": 500, "align": 1024}
DROPOUT = {"projection": 0.1, "product": 0.4, "hidden": 0.2}  # of align, as published


@register_model("clip_mlp", modalities=("text", "image"), pretrained=True)
class ClipMlp(ReleasedModel):
    """Only the head is trained; the encoder stays as it was published.

    `trained_part` of training/frozen.py computes the encoder's vectors once and trains the head on
    them; for explanations and perturbations the encoder is part of the forward pass.

    Parameters
    ----------
    vocabulary_size, max_length : number of words and of text tokens
    features, width, heads, image_size : not used
    weights : folder of save_pretrained, or a file, of CLIP or SigLIP
    outputs : 1 for the logit of label 1, else the number of answers
    sizes : {key of the encoder's config: value}, over those of the weights
    reads : "text", "image" or "both"
    fusion : "concat", the embeddings of all it reads side by side; "align", the product of text
        and image, each projected and normalised (Kumar & Nandakumar 2022, arXiv 2210.05916)
    hidden : width of the hidden layer, and of the projections of align; by default 500, and 1024
        for align, as published
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
        reads="both",
        fusion="concat",
        hidden=None,
    ):
        super().__init__()
        check_choices(reads, fusion)
        self.modalities, self.outputs, self.fusion = READS[reads], outputs, fusion
        run = (vocabulary_size, max_length)
        self.encoder = encoder_class(weights)(*run, weights=weights, sizes=sizes, head="similarity")
        self.encoder.keep_towers(self.modalities)
        self.encoder.requires_grad_(False)
        self.grid, self.report = self.encoder.grid, self.encoder.report
        hidden = hidden or HIDDEN[fusion]
        if fusion == "align":
            self.head = AlignHead(self.encoder.pooled_widths, hidden, outputs)
        else:
            width = self.encoder.embedding_width * len(self.modalities)
            self.head = ConcatHead(width, hidden, outputs)
        self.report_fresh("head")

    @classmethod
    def input_spec(cls, settings, tokenizer, max_length=None):
        encoder = encoder_class(settings.get("weights"))
        spec = encoder.input_spec(settings, tokenizer, max_length)
        return replace(spec, geometry=None) if settings.get("reads") == "text" else spec

    @property
    def network(self):
        """The stock network of the encoder."""
        return self.encoder.network

    @property
    def causal_streams(self):
        return self.encoder.causal_streams

    def train(self, mode=True):
        """The encoder is never in training mode: it has no dropout."""
        super().train(mode)
        self.encoder.eval()
        return self

    def embed_text(self, batch):
        """Tokens of the words."""
        return self.encoder.embed_text(batch)

    def embed_image(self, batch):
        """Tokens of the patches."""
        return self.encoder.embed_image(batch)

    def alone(self, modality, tokens):
        return self.encoder.alone(modality, tokens)

    def encode(self, tokens):
        return self.encoder.encode(tokens)

    def vectors(self, tokens):
        """{modality: (B, D)}: what the head reads of {modality: Tokens}."""
        return self.read(self.encode(tokens), tokens)

    def read(self, hidden, modalities):
        """{modality: (B, D)}: what the head reads, from the hidden states of `encode`."""
        read = self.encoder.pooled if self.fusion == "align" else self.encoder.embedding
        return {modality: read(hidden, modality) for modality in modalities}

    def classify(self, hidden):
        return self.head(self.read(hidden, self.modalities))

    def layout(self, tokens):
        return self.encoder.layout(tokens)

    def edges(self):
        return self.encoder.edges()

    def grad_cam_layers(self):
        return self.encoder.grad_cam_layers()

    def use_attention(self, implementation):
        super().use_attention(implementation)
        self.encoder.use_attention(implementation)


class ConcatHead(nn.Module):
    """One hidden layer on all vectors side by side."""

    def __init__(self, width, hidden, outputs):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, outputs))

    def forward(self, vectors):
        """Logits from {modality: (B, D)}."""
        return single(self.layers(torch.cat(list(vectors.values()), -1)))


class AlignHead(nn.Module):
    """Hate-CLIPper's align fusion: projections, normalised, multiplied, and one hidden layer."""

    def __init__(self, widths, hidden, outputs):
        super().__init__()
        self.projections = nn.ModuleDict(
            {
                modality: nn.Sequential(nn.Linear(width, hidden), nn.Dropout(DROPOUT["projection"]))
                for modality, width in widths.items()
            }
        )
        self.layers = nn.Sequential(
            nn.Dropout(DROPOUT["product"]),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(DROPOUT["hidden"]),
            nn.Linear(hidden, outputs),
        )

    def forward(self, vectors):
        """Logits from {modality: (B, D)} of text and image."""
        text, image = (
            F.normalize(self.projections[modality](vectors[modality]), dim=-1)
            for modality in ("text", "image")
        )
        return single(self.layers(text * image))


def check_choices(reads, fusion):
    """ValueError naming what is unknown, or does not go together."""
    problems = []
    if reads not in READS:
        problems.append(f"reads: found {reads!r}, expected {', '.join(READS)}")
    if fusion not in HIDDEN:
        problems.append(f"fusion: found {fusion!r}, expected {' or '.join(HIDDEN)}")
    if fusion == "align" and reads != "both":
        problems.append(f"fusion: found align, which needs both modalities, but reads is {reads}")
    if problems:
        raise ValueError("clip_mlp: " + "; ".join(problems))


def encoder_class(weights):
    """The model of the registry that reads the weights.

    Raises
    ------
    DataError if there are none, or those of another architecture: a frozen encoder with random
    weights would say nothing.
    """
    expected = "expected a folder of CLIP or SigLIP, with config.json"
    if weights is None:
        raise DataError("weights", [f"clip_mlp: no weights; {expected}"])
    found = settings_beside(weights).get("model_type")
    if found not in ENCODERS:
        problem = f"clip_mlp: {weights}: model_type: found {found}; {expected}"
        raise DataError("weights", [problem])
    return ENCODERS[found]
