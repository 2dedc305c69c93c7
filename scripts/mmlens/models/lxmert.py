"""LXMERT on the cached features of regions, by its stock class (Tan & Bansal 2019)."""

import torch
import torch.nn.functional as F
from transformers import LxmertConfig, LxmertForPreTraining

from ..datasets.answers import published_vocabulary
from . import register_model
from .base import Edge, Parallel, Tokens
from .regions import (
    RegionModel,
    additive_mask,
    check_fits,
    run_needs,
    some_region,
)
from .released import load_released
from .stock import CLASSES, difference, probabilities, stock_config, stock_name

BOX = 4  # numbers that say where a region lies
ANSWERS = 3129  # of the head that was fine-tuned for VQA v2
HEAD = "answer_head."
PARTS = ("lxmert.", "cls.predictions.", "cls.seq_relationship.", HEAD)
# Heads that the network has no place for, and a buffer of other versions: the numbers from 0 on.
KNOWN = ("obj_predict_head.", "lxmert.embeddings.position_ids")


@register_model("lxmert", modalities=("text", "image"), frozen=True)
class Lxmert(RegionModel):
    """Language and region layers, layers that exchange, and a head on the pooled [CLS].

    The image tokens are the regions themselves, features and boxes; an image without regions
    shows one of zeros. Both directions of an exchange share one attention module, which first
    the words and then the regions pass; both read the state from before it.

    Parameters
    ----------
    vocabulary_size, max_length : number of words and of text tokens
    features : FeatureReader
    width, heads : of a network that starts from scratch: 2 language layers, 1 region layer, 2
        exchanges, no dropout
    image_size : not used
    weights : folder of save_pretrained, or an official file; None to start from scratch
    outputs : 1 for the logit of label 1, else the number of answers
    sizes : {key of LxmertConfig: value}, over those of the weights or of the width
    answers : file of the answers that the outputs of the head in `weights` stand for, in order;
        without it, the head is read if it is one of two classes, or that of VQA v2
    tokenizer : folder of the tokenizer, if it does not lie beside the weights
    """

    def __init__(
        self,
        vocabulary_size,
        max_length,
        features,
        width=128,
        heads=4,
        image_size=None,
        *,
        weights=None,
        outputs=1,
        sizes=None,
        answers=None,
        tokenizer=None,
    ):
        super().__init__()
        run = small_sizes(vocabulary_size, max_length, features.width, width, heads)
        config = stock_config(LxmertConfig, weights, {}, run, sizes)
        layers = dict.fromkeys(("l_layers", "r_layers", "x_layers"), (1, "one layer"))
        check_fits(
            self.name,
            config,
            least={**run_needs(vocabulary_size, max_length), **layers},
            exact={
                "visual_feat_dim": (features.width, "the width of the run's features"),
                "visual_pos_dim": (BOX, "the corners of a box"),
            },
        )
        config.num_qa_labels = CLASSES if outputs == 1 else outputs
        config.task_qa, config.task_obj_predict = True, False
        self.grid, self.outputs = features.grid, outputs
        self.network = LxmertForPreTraining(config)
        if weights is not None:
            published = published_vocabulary("lxmert") if outputs == ANSWERS else None
            self.read(load_lxmert, weights, HEAD, answers, published)

    def published_answers(self):
        return self.network.answer_head.logit_fc[-1], self.answers

    def embed_text(self, batch):
        """Tokens of the words."""
        ids = batch.input_ids
        values = self.network.lxmert.embeddings(ids, torch.zeros_like(ids))
        return Tokens(values, batch.text_valid, batch.text_content)

    def embed_image(self, batch):
        """Tokens of the regions: features, then x1, y1, x2 and y2, as shares of the image."""
        regions = torch.cat([batch.image, batch.boxes], -1)[batch.image_rows]
        valid = batch.image_valid[batch.image_rows]
        return Tokens(regions, valid, valid)

    def alone(self, modality, tokens):
        """Of the words, and of the regions, as the stock encoder does before its exchanges."""
        encoder, valid = self.network.lxmert.encoder, tokens.valid
        if modality == "text":
            x, layers = tokens.values, encoder.layer
        else:
            regions, valid = some_region(tokens.values, valid)
            x = encoder.visn_fc(regions[..., :-BOX], regions[..., -BOX:])
            layers = encoder.r_layers
        mask = additive_mask(valid, x.dtype)
        for layer in layers:
            x = layer(x, mask)[0]
        return x

    def encode(self, tokens):
        prepared = self.prepare_all(tokens)
        image = tokens["image"]
        words, regions = prepared["text"].values, prepared["image"].values
        seen = some_region(image.values, image.valid)[1]
        regions = F.pad(regions, (0, 0, 0, seen.shape[1] - regions.shape[1]))
        masks = [additive_mask(valid, words.dtype) for valid in (tokens["text"].valid, seen)]
        for layer in self.network.lxmert.encoder.x_layers:
            words, regions = layer(words, masks[0], regions, masks[1])[:2]
        return {"text": words, "image": regions}

    def classify(self, hidden):
        scores = self.network.answer_head(self.network.lxmert.pooler(hidden["text"]))
        return difference(scores) if self.outputs == 1 else scores

    def word_logits(self, hidden, tokens):
        """Scores of every word at every text position, (B, T, vocabulary), for masked words."""
        return self.network.cls.predictions(hidden["text"])

    def layout(self, tokens):
        layout, image = super().layout(tokens), tokens["image"]
        layout.valid["image"] = some_region(image.values, image.valid)[1]
        return layout

    def edges(self):
        encoder = self.network.lxmert.encoder
        edges = [own_edge(layer.attention, "text") for layer in encoder.layer]
        edges += [own_edge(layer.attention, "image") for layer in encoder.r_layers]
        for layer in encoder.x_layers:
            both = probabilities(layer.visual_attention.att)
            reads = (Edge(both, "text", "image", call=0), Edge(both, "image", "text", call=1))
            edges += [
                Parallel(reads),
                own_edge(layer.lang_self_att, "text"),
                own_edge(layer.visn_self_att, "image"),
            ]
        return edges

    def layer_of(self, edge):
        """Of an exchange, whose output has both streams, the end of the stream's own part."""
        layer = super().layer_of(edge)
        if not hasattr(layer, "lang_output"):
            return layer
        return layer.lang_output if edge.query == "text" else layer.visn_output

    def grad_cam_layers(self):
        """What the last exchange reads of each stream; the attention after it is shared."""
        encoder = self.network.lxmert.encoder
        if len(encoder.x_layers) > 1:
            last = encoder.x_layers[-2]
            return {"text": last.lang_output.LayerNorm, "image": last.visn_output.LayerNorm}
        last = {"text": encoder.layer[-1], "image": encoder.r_layers[-1]}
        return {modality: layer.output.LayerNorm for modality, layer in last.items()}


def own_edge(layer, stream):
    """The edge of a self-attention layer."""
    return Edge(probabilities(layer.self), stream, stream)


def small_sizes(vocabulary_size, max_length, features, width, heads):
    """Sizes of a network that starts from scratch, by the keys of LxmertConfig."""
    return {
        "vocab_size": vocabulary_size,
        "max_position_embeddings": max_length,
        "visual_feat_dim": features,
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "l_layers": 2,
        "r_layers": 1,
        "x_layers": 2,
        # As in vilbert, whose small preset learned nothing with the published 0.1.
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": width**-0.5,
    }


def load_lxmert(network, path, fitted=(HEAD,), fresh=()):
    """Fill an `LxmertForPreTraining` with a published file; a `LoadReport`.

    The files: the official ones, pretrained and fine-tuned for VQA v2, and those of the classes
    of transformers.

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
        required=PARTS[:1],
        known=(*PARTS[1:], *KNOWN),
        fitted=fitted,
        fresh=fresh,
    )


def published_name(name):
    """The name in `LxmertForPreTraining` of a tensor of any of the files."""
    # Several GPUs put it in front, or behind the first two.
    name = name.replace("module.", "").removeprefix("lxrt_encoder.model.")
    if name.startswith("logit_fc."):
        name = f"answer_head.{name}"
    return stock_name(name, "lxmert")
