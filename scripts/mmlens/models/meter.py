"""METER-CLIP16-RoBERTa: two towers and cross-modal layers between them (Dou et al. 2022)."""

from dataclasses import replace

import torch

from ..datasets.answers import published_vocabulary
from ..features.base import Geometry
from ..features.normalise import CLIP
from . import register_model
from .base import Edge, Parallel, Tokens
from .inputs import own_inputs
from .meter_config import MeterConfig
from .meter_network import MeterNetwork
from .meter_removal import patches_removal, words_removal
from .meter_weights import load_meter
from .regions import check_fits, tokenizer_folder
from .released import ReleasedModel
from .sizes import with_sizes

MOST_TOKENS = 50  # of a text, in all of METER's training
ANSWERS = 3129  # of the head that was fine-tuned for VQA v2


@register_model("meter", modalities=("text", "image"), stem=True)
class Meter(ReleasedModel):
    """The published network behind the contract.

    For two classes it has a classifier in the form of that of VQA, with two scores, as METER has
    for NLVR2. For answers it has the classifier of VQA itself.

    Parameters
    ----------
    vocabulary_size, max_length : number of words and of text tokens
    features : not used
    width, heads, image_size : of the small preset; not used by the published one
    weights : a published file (a Lightning checkpoint, or its tensors), or a folder of one; None
        to start from scratch
    outputs : 1 for the logit of label 1, else the number of answers
    preset : "small" (2 layers of words, 2 of patches, 2 cross-modal pairs, the convolutional stem,
        no dropout) or "published"; by default published with weights, else small
    sizes : {key of MeterConfig: value}, over those of the preset; image_size: 576 for the file
        that was fine-tuned for VQA
    answers : file of the answers that the outputs of the classifier in `weights` stand for, in
        order, if they are not the 3,129 published ones
    tokenizer : folder of RoBERTa's tokenizer, if it does not lie beside the weights
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
        image_size=None,
        *,
        weights=None,
        outputs=1,
        preset=None,
        sizes=None,
        answers=None,
        tokenizer=None,
        image_tokens="patches",
    ):
        super().__init__()
        if image_tokens not in ("patches", "encoded"):
            raise ValueError(
                f"meter: image_tokens: found {image_tokens!r}, expected patches or encoded"
            )
        run = {} if weights is not None else {"vocab_size": vocabulary_size}
        config = config_of(preset, weights, width, heads, image_size, max_length, run, sizes)
        words = max_length + config.pad_token_id + 1
        least = {
            "vocab_size": (vocabulary_size, "the number of words of the tokenizer"),
            "text_max_position_embeddings": (words, f"for texts of {max_length} tokens"),
        }
        check_fits(self.name, config, least)
        self.grid, self.outputs, self.image_tokens = config.grid, outputs, image_tokens
        # Published fine-tuning has no masked words; from scratch they teach what the image shows.
        self.masked_words = weights is None
        head = "classifier" if outputs == 1 else "answers"
        self.network = MeterNetwork(
            config, (head, "words") if self.masked_words else (head,), answers=outputs
        )
        if weights is not None:
            prefix = "classifier." if outputs == 1 else "vqa_classifier."
            published = published_vocabulary("vilt") if outputs == ANSWERS else None
            self.read(load_meter, weights, prefix, answers, published)

    @classmethod
    def input_spec(cls, settings, tokenizer, max_length=None):
        names = ("preset", "weights", "width", "heads", "image_size")
        config = config_of(*(settings.get(name) for name in names), sizes=settings.get("sizes"))
        folder = tokenizer_folder(cls.name, settings, "roberta-base")
        if folder is None:
            return own_inputs(tokenizer, config.image_size, max_length)
        # Here, since a job without published words need not wait for transformers.
        from .stock import checkpoint_inputs

        spec = checkpoint_inputs(folder, tokenizer, max_length, cls.modalities, pixels=False)
        most = max_length or min(spec.max_length, MOST_TOKENS)
        side, (mean, std) = config.image_size, CLIP
        geometry = Geometry(side, side, shortest_edge=side, crop="round")
        return replace(spec, max_length=most, geometry=geometry, mean=mean, std=std)

    def published_answers(self):
        if self.outputs == 1:
            return None, None
        return self.network.vqa_classifier[-1], self.answers

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

    def alone(self, modality, tokens):
        if modality == "text":
            return self.network.encode_text(tokens.values, tokens.valid)
        if self.image_tokens == "encoded":
            return tokens.values
        return self.network.encode_image(tokens.values, tokens.valid)

    def encode(self, tokens):
        tokens = self.prepare_all(tokens)
        text, image = tokens["text"], tokens["image"]
        words, seen = self.network.join(text.values, text.valid, image.values, image.valid)
        return {"text": words, "image": seen}

    def removal(self, tokens, modality):
        other = "image" if modality == "text" else "text"
        tokens = {**tokens, other: self.prepare(other, tokens[other])}
        if modality == "text":
            return words_removal(self, tokens)
        encoded = tokens["image"].prepared or self.image_tokens == "encoded"
        return patches_removal(self, tokens) if encoded else super().removal(tokens, modality)

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

    def as_last(self, state, layer):
        """Of the layers before the cross-modal ones, what these would read of it."""
        if layer in list(self.network.text_layers):
            return self.network.enter_text(state)
        if layer in list(self.network.visual.transformer["resblocks"]):
            return self.network.enter_image(self.network.visual.ln_post(state))
        return state

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


def config_of(preset, weights, width, heads, image_size, max_length=1, run=None, sizes=None):
    """The `MeterConfig` of a model's arguments.

    preset, weights, width, heads, image_size, sizes : see `Meter`
    max_length : of the small preset; run : {key: value} of what follows from the run

    Raises
    ------
    ValueError if the preset is unknown, or naming every key of the sizes that is.
    """
    preset = preset or ("small" if weights is None else "published")
    if preset not in ("small", "published"):
        raise ValueError(f"meter: preset: found {preset!r}, expected small or published")
    own = small_sizes(width, heads, image_size, max_length) if preset == "small" else {}
    try:
        return with_sizes(MeterConfig(), {**own, **(run or {}), **(sizes or {})})
    except ValueError as error:
        raise ValueError(f"meter: {error}") from None


def small_sizes(width, heads, image_size, max_length):
    """Sizes of the small preset, by the keys of MeterConfig."""
    return {
        "hidden_size": width,
        "num_top_layer": 2,
        "num_heads": heads,
        "drop_rate": 0.0,
        "image_size": image_size,
        "patch_embedding": "stem",
        "text_hidden_size": width,
        "text_num_hidden_layers": 2,
        "text_num_attention_heads": heads,
        "text_intermediate_size": 4 * width,
        "text_max_position_embeddings": max_length + MeterConfig.pad_token_id + 1,
        "text_drop_rate": 0.0,
        "vision_width": width,
        "vision_layers": 3,
        "vision_heads": heads,
        "initializer_range": width**-0.5,
    }
