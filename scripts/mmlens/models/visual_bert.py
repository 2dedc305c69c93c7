"""VisualBERT on the cached features of regions, by its stock class (Li et al. 2019)."""

import torch
from torch import nn
from transformers import VisualBertConfig, VisualBertForPreTraining
from transformers.models.visual_bert.modeling_visual_bert import VisualBertPredictionHeadTransform

from ..datasets.vocabulary import PAD
from . import register_model
from .base import Edge, SingleStream, Tokens
from .regions import RegionModel, additive_mask, check_fits, run_needs
from .released import load_released
from .stock import CLASSES, difference, probabilities, stock_config, stock_name

# Sizes of the published files that are not the defaults of VisualBertConfig.
PUBLISHED = {"visual_embedding_dim": 2048, "pad_token_id": PAD}
REGION = 1  # the segment of regions
HEAD = "classifier."
PARTS = ("visual_bert.", "cls.predictions.", "cls.seq_relationship.", HEAD)
# A buffer of other versions, and what classes for other tasks put on the pooled or last word.
KNOWN = ("visual_bert.embeddings.position_ids", "cls.weight", "cls.bias")
# What MMF calls the embeddings of the regions.
REGIONS = {
    "embeddings.token_type_embeddings_visual.": "embeddings.visual_token_type_embeddings.",
    "embeddings.position_embeddings_visual.": "embeddings.visual_position_embeddings.",
    "embeddings.projection.": "embeddings.visual_projection.",
}


@register_model("visual_bert", modalities=("text", "image"), frozen=True)
class VisualBert(SingleStream, RegionModel):
    """One transformer over [words, regions]; MMF's classifier on the pooled [CLS].

    It knows where a region lies by its features only.

    Parameters
    ----------
    vocabulary_size, max_length : number of words and of text tokens
    features : FeatureReader
    width, heads : of a network that starts from scratch: 4 layers, no dropout
    image_size : not used
    weights : folder of save_pretrained, or a file of MMF; None to start from scratch
    outputs : 1 for the logit of label 1, else the number of answers
    sizes : {key of VisualBertConfig: value}, over those of the weights or of the width
    answers : file of the answers that the outputs of the classifier in `weights` stand for, in
        order; without it only a classifier of two classes is read
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
        config = stock_config(VisualBertConfig, weights, PUBLISHED, run, sizes)
        check_fits(
            self.name,
            config,
            least={
                **run_needs(vocabulary_size, max_length),
                "num_hidden_layers": (2, "of which the last but one is what Grad-CAM reads"),
            },
            exact={
                "visual_embedding_dim": (features.width, "the width of the run's features"),
                "bypass_transformer": (False, "all layers read words and regions"),
            },
        )
        self.grid, self.outputs = features.grid, outputs
        self.network = VisualBertForPreTraining(config)
        self.network.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.network.classifier = nn.Sequential(
            VisualBertPredictionHeadTransform(config),
            nn.Linear(config.hidden_size, CLASSES if outputs == 1 else outputs),
        )
        self.network.classifier.apply(self.network._init_weights)
        if weights is not None:
            self.read(load_visual_bert, weights, HEAD, answers)

    def published_answers(self):
        return self.network.classifier[-1], self.answers

    def embed_text(self, batch):
        """Tokens of the words."""
        ids = batch.input_ids
        values = self.network.visual_bert.embeddings(ids, torch.zeros_like(ids))
        return Tokens(values, batch.text_valid, batch.text_content)

    def embed_image(self, batch):
        """Tokens of the regions, all in the first position of the segment of regions."""
        embeddings = self.network.visual_bert.embeddings
        place = embeddings.visual_position_embeddings.weight[0]
        segment = embeddings.visual_token_type_embeddings.weight[REGION]
        x = embeddings.visual_projection(batch.image) + place + segment
        values = embeddings.dropout(embeddings.LayerNorm(x))[batch.image_rows]
        valid = batch.image_valid[batch.image_rows]
        return Tokens(values, valid, valid)

    def encode(self, tokens):
        text, image = tokens["text"], tokens["image"]
        x = torch.cat([text.values, image.values], 1)
        mask = additive_mask(torch.cat([text.valid, image.valid], 1), x.dtype)
        return {"joint": self.network.visual_bert.encoder(x, mask).last_hidden_state}

    def classify(self, hidden):
        pooled = self.network.visual_bert.pooler(hidden["joint"])
        scores = self.network.classifier(self.network.dropout(pooled))
        return difference(scores) if self.outputs == 1 else scores

    def word_logits(self, hidden, tokens):
        """Scores of every word at every text position, (B, T, vocabulary), for masked words."""
        return self.network.cls.predictions(hidden["joint"][:, : tokens["text"].values.shape[1]])

    def edges(self):
        layers = self.network.visual_bert.encoder.layer
        return [Edge(probabilities(layer.attention.self), "joint", "joint") for layer in layers]

    def grad_cam_layers(self):
        """What the last layer reads: after it only the first token reaches the classifier."""
        layers = self.network.visual_bert.encoder.layer
        return dict.fromkeys(self.modalities, layers[-2].output.LayerNorm)


def small_sizes(vocabulary_size, max_length, features, width, heads):
    """Sizes of a network that starts from scratch, by the keys of VisualBertConfig."""
    return {
        "vocab_size": vocabulary_size,
        "pad_token_id": PAD,
        "max_position_embeddings": max_length,
        "visual_embedding_dim": features,
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_hidden_layers": 4,
        "intermediate_size": 4 * width,
        # As in vilbert, whose small preset learned nothing with the published 0.1.
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": width**-0.5,
    }


def load_visual_bert(network, path, fitted=(HEAD,), fresh=()):
    """Fill a `VisualBertForPreTraining` with a classifier; a `LoadReport`.

    The files: those of MMF, pretrained and fine-tuned, and those of the classes of transformers.
    MMF's regions are in the segment that the words are in, 0, and those of transformers in
    segment 1: the two segments of regions of a file of MMF change places.

    Raises
    ------
    DataError naming every tensor of the trunk that is missing or unexpected, every head that is
    there in part, and every other shape.
    """
    report = load_released(
        network,
        path,
        rename=published_name,
        parts=PARTS,
        required=PARTS[:1],
        known=(*PARTS[1:], *KNOWN),
        fitted=fitted,
        fresh=fresh,
    )
    if any(
        name.endswith("embeddings.token_type_embeddings_visual.weight") for name in report.renamed
    ):
        types = network.visual_bert.embeddings.visual_token_type_embeddings.weight
        with torch.no_grad():
            types.copy_(types.flip(0))
    return report


def published_name(name):
    """The name in `VisualBertForPreTraining` of a tensor of any of the files."""
    while name.startswith(("module.", "model.")):
        name = name.split(".", 1)[1]
    if name.startswith(("bert.bert.", "bert.cls.", "bert.classifier.")):
        name = name.removeprefix("bert.")
    for old, new in REGIONS.items():
        name = name.replace(old, new)
    return stock_name(name, "visual_bert")
