"""METER-CLIP16-RoBERTa: two towers and cross-modal layers between them (Dou et al. 2022)."""

from dataclasses import replace
from pathlib import Path

import torch

from ..features.base import Geometry
from ..features.normalise import CLIP
from ..table import DataError
from . import register_model
from .base import Edge, Model, Parallel, Tokens
from .inputs import own_inputs
from .meter_config import MeterConfig
from .meter_network import MeterNetwork
from .meter_weights import load_meter
from .sizes import with_sizes

MOST_TOKENS = 50  # of a text, in all of METER's training
WEIGHTS = (".ckpt", ".safetensors", ".pt", ".pth", ".bin")


@register_model("meter", modalities=("text", "image"), stem=True)
class Meter(Model):
    """The published network behind the contract.

    For two classes a classifier in the form of that of VQA, with two scores, as METER has it for
    NLVR2; its logit is their difference. For answers the classifier of VQA itself, whose published
    order of answers is the vocabulary vilt.

    Parameters
    ----------
    vocabulary_size, max_length : number of words and of text tokens
    features : not used
    width, heads, image_size : of the small preset; not used by the published one
    weights : published file (a Lightning checkpoint, or its tensors), or folder with one; None to
        start from scratch
    outputs : 1 for the logit of label 1, else the number of answers
    preset : "small" (2 layers of words, 2 of patches, 2 cross-modal pairs, the convolutional stem,
        no dropout) or "published"; None for small without weights, published with them
    sizes : {key of MeterConfig: value}, over those of the preset; image_size 576 for the file
        fine-tuned for VQA
    tokenizer : folder of RoBERTa's tokenizer; None for that beside the weights, or, from scratch,
        the run's own
    image_tokens : what a perturbation removes: "patches", at the input of the image tower, or
        "encoded", its last states, as in published tests of METER
    """

    readouts = (("text", 0), ("image", 0))

    def __init__(
        self,
        vocabulary_size,
        max_length,
        features=None,
        width=128,
        heads=4,
        image_size=96,
        *,
        weights=None,
        outputs=1,
        preset=None,
        sizes=None,
        tokenizer=None,
        image_tokens="patches",
    ):
        super().__init__()
        arguments = {"weights": weights, "preset": preset, "sizes": sizes, "width": width}
        arguments |= {"heads": heads, "image_size": image_size}
        config = config_of(arguments, vocabulary_size, max_length)
        if image_tokens not in ("patches", "encoded"):
            raise ValueError(f"image_tokens: found {image_tokens!r}, expected patches or encoded")
        self.grid, self.outputs, self.image_tokens = config.grid, outputs, image_tokens
        # Published fine-tuning has no masked words; from scratch they teach what the image shows.
        self.masked_words = weights is None
        parts = ("answers" if outputs > 1 else "classifier",)
        parts += ("words",) if self.masked_words else ()
        self.network = MeterNetwork(config, parts, answers=outputs)
        if weights is not None:
            print(load_meter(self.network, weights_file(weights)))

    @classmethod
    def input_spec(cls, settings, tokenizer, max_length=None):
        config = config_of(settings)
        side = config.image_size
        folder = tokenizer_folder(settings)
        if folder is None:
            return own_inputs(tokenizer, side, max_length)
        from .stock import checkpoint_inputs  # imports transformers, which takes seconds

        spec = checkpoint_inputs(
            folder, tokenizer, max_length or MOST_TOKENS, cls.modalities, pixels=False
        )
        mean, std = CLIP
        geometry = Geometry(side, side, shortest_edge=side, crop="round")
        return replace(spec, geometry=geometry, mean=mean, std=std)

    @property
    def image_stem(self):
        return self.network.visual.stem

    def embed_text(self, batch):
        """Tokens of the words."""
        embeddings = self.network.text_transformer["embeddings"]
        values = embeddings(batch.input_ids, batch.text_valid)
        return Tokens(values, batch.text_valid, batch.text_content)

    def embed_image(self, batch):
        """Tokens of the patches, after a class token."""
        values = self.network.visual.embed(batch.image)
        valid = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
        if self.image_tokens == "encoded":
            values = self.network.encode_image(values, valid)
        content = valid.clone()
        content[:, 0] = False
        rows = batch.image_rows
        return Tokens(values[rows], valid[rows], content[rows])

    def encode(self, tokens):
        text, image = tokens["text"], tokens["image"]
        seen = image.values
        if self.image_tokens == "patches":
            seen = self.network.encode_image(seen, image.valid)
        words = self.network.encode_text(text.values, text.valid)
        words, seen = self.network.join(words, text.valid, seen, image.valid)
        return {"text": words, "image": seen}

    def classify(self, hidden):
        fused = self.network.fuse(hidden["text"], hidden["image"])
        if self.outputs > 1:
            return self.network.vqa_classifier(fused)
        scores = self.network.classifier(fused)
        return scores[:, 1] - scores[:, 0]

    def word_logits(self, hidden, tokens):
        """Scores of every word at every text position, (B, T, vocabulary), for masked words."""
        return self.network.mlm_score(hidden["text"])

    def edges(self):
        edges = []
        if self.image_tokens == "patches":
            blocks = self.network.visual.transformer["resblocks"]
            edges += [Edge(block.attn.probabilities, "image", "image") for block in blocks]
        edges += [Edge(layer.probabilities, "text", "text") for layer in self.network.text_layers]
        for pair in self.network.pairs():
            group = []
            for layer, own, other in zip(pair, ("text", "image"), ("image", "text"), strict=True):
                cross = layer.crossattention["self"].probabilities
                group += [Edge(layer.probabilities, own, own), Edge(cross, own, other)]
            edges.append(Parallel(tuple(group)))
        return edges

    def grad_cam_layers(self):
        """What the last cross-modal layers read.

        After them only the first token of a stream reaches the classifier, and all others have no
        gradient.
        """
        pairs = self.network.pairs()
        if len(pairs) == 1:
            transforms = ("cross_modal_text_transform", "cross_modal_image_transform")
            text, image = (getattr(self.network, name) for name in transforms)
        else:
            text, image = (layer.output.LayerNorm for layer in pairs[-2])
        return {"text": text, "image": image}


def config_of(settings, vocabulary_size=None, max_length=None):
    """The `MeterConfig` of a model's keyword arguments.

    vocabulary_size, max_length : of the texts, once they are known

    Raises
    ------
    ValueError if the preset or a key of the sizes is unknown, or the texts do not fit the sizes.
    """
    weights, sizes = settings.get("weights"), settings.get("sizes") or {}
    preset = settings.get("preset") or ("small" if weights is None else "published")
    own = {} if vocabulary_size is None else {"vocab_size": vocabulary_size}
    if preset == "small":
        config = small_config(settings["width"], settings["heads"], settings["image_size"])
        if max_length is not None:
            own["text_max_position_embeddings"] = max_length + config.pad_token_id + 1
    elif preset == "published":
        config = MeterConfig()
    else:
        raise ValueError(f"meter: preset: found {preset!r}, expected small or published")
    try:
        config = with_sizes(config, {**own, **sizes})
    except ValueError as error:
        raise ValueError(f"meter: {error}") from None
    if max_length is not None and max_length > config.most_words:
        least = max_length + config.pad_token_id + 1
        raise ValueError(
            f"meter: text_max_position_embeddings: found {config.text_max_position_embeddings}, "
            f"expected at least {least}, for texts of {max_length} tokens"
        )
    return config


def small_config(width, heads, image_size):
    """Sizes of the small preset."""
    return MeterConfig(
        hidden_size=width,
        num_top_layer=2,
        num_heads=heads,
        drop_rate=0.0,
        image_size=image_size,
        patch_embedding="stem",
        text_hidden_size=width,
        text_num_hidden_layers=2,
        text_num_attention_heads=heads,
        text_intermediate_size=4 * width,
        text_drop_rate=0.0,
        vision_width=width,
        vision_layers=3,
        vision_heads=heads,
        initializer_range=width**-0.5,
    )


def tokenizer_folder(settings):
    """Folder of the tokenizer that texts are read with; None for the run's own.

    Raises
    ------
    DataError if there are weights, whose words are RoBERTa's, and no tokenizer.
    """
    weights, folder = settings.get("weights"), settings.get("tokenizer")
    beside = weights is not None and Path(weights).is_dir()
    if folder is None and beside and (Path(weights) / "tokenizer.json").is_file():
        folder = weights
    if folder is None and weights is not None:
        problem = f"{weights}: no tokenizer beside it; give arguments.tokenizer, a folder of "
        raise DataError("weights", [problem + "roberta-base's tokenizer"])
    return folder


def weights_file(path):
    """A file of weights: `path` itself, or the only one of a folder; DataError if there is none."""
    path = Path(path)
    if not path.is_dir():
        return path
    found = sorted(p for p in path.iterdir() if p.suffix in WEIGHTS)
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        problem = f"{path}: found {names}, expected one file of {', '.join(WEIGHTS)}"
        raise DataError("weights", [problem])
    return found[0]
