"""What the stock models of two towers share, which meet only in the embeddings they end with."""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoTokenizer

from ..datasets.vocabulary import CLS, PAD, SEP
from .base import Edge, Layout, Span, Tokens, single
from .folders import folder_of, weights_file
from .layers import PATCH, Stem
from .regions import check_fits, run_needs
from .released import load_released
from .stock import StockModel, check_geometry, checkpoint_inputs, last_of, stock_config

LAYERS = 3  # per tower of a network that starts from scratch
HEADS = ("classifier", "similarity")
# Buffers of other versions: the numbers from 0 on.
KNOWN = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")


class DualEncoder(StockModel):
    """A text and an image tower; the head reads one embedding (B, D) of each.

    Parameters
    ----------
    vocabulary_size, max_length : number of words and of text tokens
    features : not used
    width, heads : of a network that starts from scratch: 3 layers per tower, that of the image on
        the convolutional stem
    image_size : of a network that starts from scratch; else that of its config
    weights : folder of save_pretrained, or a file; None to start from scratch
    outputs : 1 for the logit of label 1, else the number of answers
    sizes : {key of the config: value}, over those of the weights or of the width, such as
        {vision_config: {num_hidden_layers: 6}}
    head : "classifier", a perceptron on both embeddings and their product; "similarity", their
        cosine, scaled as the network was trained, for zero-shot use and for training on pairs
    """

    architecture = config_class = None  # of transformers
    tokenizer_class = AutoTokenizer
    image_readout = ("image", 0)

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
    ):
        super().__init__()
        if head not in HEADS:
            raise ValueError(f"{self.name}: head: found {head!r}, expected {' or '.join(HEADS)}")
        if head == "similarity" and outputs > 1:
            raise ValueError(
                f"{self.name}: head: found similarity, which is one number, but the run has "
                f"{outputs} answers; expected classifier"
            )
        run = small_sizes(vocabulary_size, max_length, width, heads, image_size)
        config = stock_config(self.config_class, weights, {}, run, sizes)
        check_fits(self.name, config.text_config, least=run_needs(vocabulary_size, max_length))
        image = config.vision_config
        self.grid = (image.image_size // image.patch_size,) * 2
        self.outputs, self.head, self.pair_logit = outputs, head, head == "similarity"
        self.network = self.architecture(config)
        if weights is None:
            self.network.vision_model.embeddings.patch_embedding = Stem(image.hidden_size)
        else:
            self.report = load_towers(self.network, weights_file(weights))
        if head == "classifier":
            own = self.embedding_width
            self.classifier = nn.Sequential(
                nn.Linear(3 * own, own), nn.GELU(), nn.Linear(own, outputs)
            )
        if weights is not None:
            self.report_fresh("classifier")
            print(self.report)

    @classmethod
    def input_spec(cls, settings, tokenizer, max_length=None):
        weights = settings.get("weights")
        if weights is None:
            return super().input_spec(settings, tokenizer, max_length)
        config = stock_config(cls.config_class, weights, {}, {}, settings.get("sizes"))
        spec = checkpoint_inputs(
            folder_of(weights),
            tokenizer,
            max_length,
            cls.modalities,
            pixels=True,
            most=config.text_config.max_position_embeddings,
            kind=cls.tokenizer_class,
        )
        check_geometry(weights, spec.geometry, config.vision_config.image_size)
        return spec

    @property
    def image_stem(self):
        patches = self.network.vision_model.embeddings.patch_embedding
        return patches if isinstance(patches, Stem) else None

    @property
    @abstractmethod
    def embedding_width(self):
        """D of both embeddings."""

    @property
    def pooled_widths(self):
        """{modality: width of its pooled vector}."""
        config = self.network.config
        return {"text": config.text_config.hidden_size, "image": config.vision_config.hidden_size}

    @property
    def towers(self):
        """{modality: tower of the stock class}."""
        towers = {"text": self.network.text_model, "image": self.network.vision_model}
        return {modality: tower for modality, tower in towers.items() if tower is not None}

    def keep_towers(self, modalities):
        """Forget the towers of all other modalities."""
        for modality, name in (("text", "text_model"), ("image", "vision_model")):
            if modality not in modalities:
                setattr(self.network, name, None)

    @abstractmethod
    def text_mask(self, valid, dtype):
        """What is added to the scores of the text's attention, broadcast to (B, H, T, T).

        valid : bool (B, T)
        """

    @abstractmethod
    def encode_image(self, image):
        """Hidden states (B, N, D) of the image tower, from its `Tokens`."""

    @abstractmethod
    def pooled(self, hidden, modality):
        """The vector (B, W) that stands for a text or an image, from what `encode` gave."""

    @abstractmethod
    def embedding(self, hidden, modality):
        """The embedding (B, D) of one modality: its pooled vector in the space of both."""

    def embed_text(self, batch):
        """Tokens of the words."""
        values = self.network.text_model.embeddings(batch.input_ids)
        return Tokens(values, batch.text_valid, batch.text_content)

    def encode_text(self, text):
        """Hidden states (B, T, D) of the text tower, from its `Tokens`."""
        network = self.network.text_model
        mask = self.text_mask(text.valid, text.values.dtype)
        x = network.encoder(text.values, attention_mask=mask).last_hidden_state
        return network.final_layer_norm(x)

    def alone(self, modality, tokens):
        encoders = {"text": self.encode_text, "image": self.encode_image}
        return encoders[modality](tokens)

    def encode(self, tokens):
        """Of each tower; beside the text "end", the states (B, 1, D) of its last tokens."""
        tokens = self.prepare_all(tokens)
        hidden = {modality: own.values for modality, own in tokens.items()}
        if "text" in tokens:
            text = tokens["text"]
            rows = torch.arange(len(text.values), device=text.values.device)
            hidden["end"] = text.values[rows, last_of(text.valid)][:, None]
        return hidden

    def classify(self, hidden):
        text, image = (self.embedding(hidden, modality) for modality in ("text", "image"))
        if self.head == "similarity":
            text, image, scale, bias = self.scaled(text, image)
            similarity = (text * image).sum(-1) * scale
            return similarity if bias is None else similarity + bias
        return single(self.classifier(torch.cat([text, image, text * image], -1)))

    def pair_embeddings(self, tokens):
        """Normalised embeddings (B, D) of texts and images, scale and bias (or None)."""
        hidden = self.encode(tokens)
        return self.scaled(*(self.embedding(hidden, modality) for modality in ("text", "image")))

    def scaled(self, text, image):
        """Embeddings normalised, with the scale and the bias of their cosines' logits."""
        text, image = (F.normalize(embedding, dim=-1) for embedding in (text, image))
        bias = getattr(self.network, "logit_bias", None)
        return text, image, self.network.logit_scale.exp(), bias

    def layout(self, tokens):
        readouts = {"image": self.image_readout}
        if "text" in tokens:
            readouts["text"] = ("text", last_of(tokens["text"].valid))
        return Layout(
            spans={m: Span(m, 0, t.values.shape[1]) for m, t in tokens.items()},
            content={m: t.content for m, t in tokens.items()},
            valid={m: t.valid for m, t in tokens.items()},
            readouts=tuple(readouts[modality] for modality in tokens),
            grid=self.grid,
        )

    def edges(self):
        return [
            Edge(layer.self_attn, modality, modality, item=1)
            for modality, tower in self.towers.items()
            for layer in tower.encoder.layers
        ]

    def grad_cam_layers(self):
        """What the last layers read: after them only one token reaches the head."""
        return {m: tower.encoder.layers[-1].layer_norm1 for m, tower in self.towers.items()}


def small_sizes(vocabulary_size, max_length, width, heads, image_size):
    """Sizes of a network that starts from scratch, by the keys of the configs of both towers."""
    tower = {
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_hidden_layers": LAYERS,
        "intermediate_size": 4 * width,
    }
    return {
        "projection_dim": width,
        "text_config": {
            **tower,
            "vocab_size": vocabulary_size,
            "max_position_embeddings": max_length,
            "bos_token_id": CLS,
            "eos_token_id": SEP,
            "pad_token_id": PAD,
        },
        "vision_config": {**tower, "image_size": image_size, "patch_size": PATCH},
    }


def load_towers(network, path):
    """Fill a network of two towers with a published file; a `LoadReport`.

    Raises
    ------
    DataError naming every tensor that is missing, unexpected or of another shape.
    """
    return load_released(
        network, path, rename=lambda name: name, parts=(), required=(), known=KNOWN
    )
