"""ViLBERT: a text stream, a region stream and co-attention between them (Lu et al. 2019).

The modules carry the names of the published checkpoints, so that their keys are these. Post-norm
layers with the exact GELU. In names of the co-attention layers, 1 is the region stream and 2 the
text stream.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .bert_layers import AddNorm, Dense, Layer
from .layers import DotProductAttention, RecomputedLayer
from .vilbert_config import VilbertConfig

# What may stand on the trunk: three heads of the pretraining, those of the multi-task model, and
# the classifier of MMF.
HEADS = ("words", "regions", "alignment", "tasks", "classifier")
PRETRAINING = HEADS[:3]


class TextEmbeddings(nn.Module):
    """Words, positions and segments, normalised."""

    def __init__(self, config):
        super().__init__()
        width = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, width)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        if config.task_count:
            self.task_embeddings = nn.Embedding(config.task_count, width)
        self.LayerNorm = nn.LayerNorm(width, config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids, token_type_ids=None, task_ids=None):
        """Long (B, T) -> (B, T, D).

        token_type_ids : long (B, T), the segments; 0 if not given
        task_ids : long (B,); puts the task's token, which has neither position nor segment, after
            the first one: (B, T + 1, D)
        """
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        x = self.word_embeddings(input_ids) + self.token_type_embeddings(token_type_ids)
        x = x + self.position_embeddings.weight[: input_ids.shape[1]]
        if task_ids is not None:
            x = torch.cat([x[:, :1], self.task_embeddings(task_ids)[:, None], x[:, 1:]], 1)
        return self.dropout(self.LayerNorm(x))


class RegionEmbeddings(nn.Module):
    """Features (B, N, F) and places (B, N, 5) of regions, both projected, summed, normalised.

    A place is x1, y1, x2, y2 and the area, as shares of the image.
    """

    def __init__(self, config):
        super().__init__()
        self.image_embeddings = nn.Linear(config.v_feature_size, config.v_hidden_size)
        self.image_location_embeddings = nn.Linear(5, config.v_hidden_size)
        self.LayerNorm = nn.LayerNorm(config.v_hidden_size, config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, features, places):
        x = self.image_embeddings(features) + self.image_location_embeddings(places)
        return self.dropout(self.LayerNorm(x))


class CoAttention(nn.Module):
    """Text queries read the regions, and region queries the text, from one state of both."""

    def __init__(self, config):
        super().__init__()
        heads, dropout = config.bi_num_attention_heads, config.attention_probs_dropout_prob
        for number, width in ((1, config.v_hidden_size), (2, config.hidden_size)):
            for name in ("query", "key", "value"):
                self.add_module(f"{name}{number}", nn.Linear(width, config.bi_hidden_size))
        self.text_reads = DotProductAttention(heads, dropout)
        self.regions_read = DotProductAttention(heads, dropout)

    def forward(self, text, text_valid, regions, regions_valid):
        """What the text read (B, T, C), what the regions read (B, N, C)."""
        query, key, value = self.query2(text), self.key1(regions), self.value1(regions)
        by_text = self.text_reads.attend(query, key, value, regions_valid)
        query, key, value = self.query1(regions), self.key2(text), self.value2(text)
        return by_text, self.regions_read.attend(query, key, value, text_valid)


class CoOutput(nn.Module):
    """Adds what each stream read to that stream.

    q_dense1 and q_dense2 are in the published files, and the published forward pass never uses
    them; they are kept here for the files' sake.
    """

    def __init__(self, config):
        super().__init__()
        for number, width in ((1, config.v_hidden_size), (2, config.hidden_size)):
            self.add_module(f"dense{number}", nn.Linear(config.bi_hidden_size, width))
            self.add_module(f"LayerNorm{number}", nn.LayerNorm(width, config.layer_norm_eps))
            self.add_module(f"q_dense{number}", nn.Linear(config.bi_hidden_size, width))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, by_text, text, by_regions, regions):
        text = self.LayerNorm2(self.dropout(self.dense2(by_text)) + text)
        regions = self.LayerNorm1(self.dropout(self.dense1(by_regions)) + regions)
        return text, regions


class Exchange(RecomputedLayer):
    """Co-attention, then a feed-forward for each stream."""

    def __init__(self, config):
        super().__init__()
        self.biattention = CoAttention(config)
        self.biOutput = CoOutput(config)
        self.v_intermediate = Dense(config.v_hidden_size, config.v_intermediate_size)
        self.v_output = AddNorm(config.v_intermediate_size, config.v_hidden_size, config)
        self.t_intermediate = Dense(config.hidden_size, config.intermediate_size)
        self.t_output = AddNorm(config.intermediate_size, config.hidden_size, config)

    def forward(self, text, text_valid, regions, regions_valid):
        by_text, by_regions = self.biattention(text, text_valid, regions, regions_valid)
        text, regions = self.biOutput(by_text, text, by_regions, regions)
        text = self.t_output(self.t_intermediate(text), text)
        return text, self.v_output(self.v_intermediate(regions), regions)


class Encoder(nn.Module):
    """All layers, in the order of `VilbertConfig.order`."""

    def __init__(self, config):
        super().__init__()
        text = (config.hidden_size, config.num_attention_heads, config.intermediate_size)
        regions = (config.v_hidden_size, config.v_num_attention_heads, config.v_intermediate_size)
        self.layer = nn.ModuleList(Layer(*text, config) for _ in range(config.num_hidden_layers))
        self.v_layer = nn.ModuleList(
            Layer(*regions, config) for _ in range(config.v_num_hidden_layers)
        )
        self.c_layer = nn.ModuleList(Exchange(config) for _ in config.v_biattention_id)
        self.order = config.order()

    def steps(self):
        """(kind, layer) in the order of the forward pass; kind: text, regions or exchange."""
        layers = {"text": self.layer, "regions": self.v_layer, "exchange": self.c_layer}
        return [(kind, layers[kind][number]) for kind, number in self.order]

    def before_exchange(self):
        """How many steps come before the first exchange."""
        kinds = [kind for kind, _ in self.steps()]
        return kinds.index("exchange") if "exchange" in kinds else len(kinds)

    def alone(self, stream, states, valid):
        """States of one stream, "text" or "regions", before the first exchange."""
        for kind, layer in self.steps()[: self.before_exchange()]:
            if kind == stream:
                states = layer(states, valid)
        return states

    def forward(self, text, text_valid, regions, regions_valid):
        text = self.alone("text", text, text_valid)
        regions = self.alone("regions", regions, regions_valid)
        return self.join(text, text_valid, regions, regions_valid)

    def join(self, text, text_valid, regions, regions_valid):
        """All steps from the first exchange on."""
        for kind, layer in self.steps()[self.before_exchange() :]:
            if kind == "text":
                text = layer(text, text_valid)
            elif kind == "regions":
                regions = layer(regions, regions_valid)
            else:
                text, regions = layer(text, text_valid, regions, regions_valid)
        return text, regions


class Pooler(nn.Module):
    """ReLU(Linear(first token)): (B, N, D) -> (B, C)."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.dense = nn.Linear(inputs, outputs)

    def forward(self, x):
        return self.dense(x[:, 0]).relu()


class Trunk(nn.Module):
    """Embeddings, encoder and poolers: what all published files share."""

    def __init__(self, config):
        super().__init__()
        self.embeddings = TextEmbeddings(config)
        self.v_embeddings = RegionEmbeddings(config)
        self.encoder = Encoder(config)
        self.t_pooler = Pooler(config.hidden_size, config.bi_hidden_size)
        self.v_pooler = Pooler(config.v_hidden_size, config.bi_hidden_size)

    def forward(self, text, text_valid, regions, regions_valid):
        """Embedded tokens -> states after the last layers.

        text (B, T, D) and regions (B, N, E); text_valid, regions_valid : bool (B, T), (B, N),
        False for padding, True for at least one token of every sample.
        """
        return self.encoder(text, text_valid, regions, regions_valid)


class WordHead(nn.Module):
    """Scores of all words for masked-word modelling; the decoder is the word embedding."""

    def __init__(self, config, words):
        super().__init__()
        self.transform = Dense(config.hidden_size, config.hidden_size, config.layer_norm_eps)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.decoder.weight = words.weight
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, text):
        """States (B, T, D) -> (B, T, vocabulary)."""
        return self.decoder(self.transform(text)) + self.bias


class RegionHead(nn.Module):
    """Scores of all object classes for masked-region modelling: (B, N, E) -> (B, N, classes)."""

    def __init__(self, config):
        super().__init__()
        width = config.v_hidden_size
        self.transform = Dense(width, width, config.layer_norm_eps)
        self.decoder = nn.Linear(width, config.v_target_size)

    def forward(self, regions):
        return self.decoder(self.transform(regions))


class TaskHead(nn.Module):
    """A classifier of the multi-task model: Linear, GELU, LayerNorm, Linear."""

    def __init__(self, inputs, inner, classes, eps):
        super().__init__()
        norm = nn.LayerNorm(inner, eps)
        layers = (nn.Linear(inputs, inner), nn.GELU(), norm, nn.Linear(inner, classes))
        self.logit_fc = nn.Sequential(*layers)

    def forward(self, fused):
        return self.logit_fc(fused)


def task_heads(config):
    """{name: module} of the heads of the multi-task model (Lu et al. 2020).

    Answers of VQA and of GQA, and vil_logit and vil_tri_prediction, read the fused streams;
    vil_binary_prediction those of two images, one after the other; vision_logit and linguisic_logit
    (so in the files) the states of regions and of words.
    """
    fused, eps = config.bi_hidden_size, config.layer_norm_eps
    return {
        "vil_prediction": TaskHead(fused, 2 * fused, 3129, eps),
        "vil_prediction_gqa": TaskHead(fused, 2 * fused, 1533, eps),
        "vil_binary_prediction": TaskHead(2 * fused, 2 * fused, 2, eps),
        "vil_logit": nn.Linear(fused, 1),
        "vil_tri_prediction": nn.Linear(fused, 3),
        "vision_logit": nn.Linear(config.v_hidden_size, 1),
        "linguisic_logit": nn.Linear(config.hidden_size, 1),
    }


class VilbertNetwork(nn.Module):
    """The trunk and heads.

    Parameters
    ----------
    config : VilbertConfig
    heads : of HEADS
    """

    def __init__(self, config=None, heads=PRETRAINING):
        super().__init__()
        self.config = config = config or VilbertConfig()
        self.bert = Trunk(config)
        pretraining = {}
        if "words" in heads:
            words = self.bert.embeddings.word_embeddings
            pretraining["predictions"] = WordHead(config, words)
        if "alignment" in heads:
            pretraining["bi_seq_relationship"] = nn.Linear(config.bi_hidden_size, 2)
        if "regions" in heads:
            pretraining["imagePredictions"] = RegionHead(config)
        if pretraining:
            self.cls = nn.ModuleDict(pretraining)
        if "tasks" in heads:
            for name, head in task_heads(config).items():
                self.add_module(name, head)
        if "classifier" in heads:
            fused = config.bi_hidden_size
            self.classifier = nn.Sequential(
                Dense(fused, fused, config.layer_norm_eps), nn.Linear(fused, config.num_labels)
            )
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.apply(self.initialise)

    def initialise(self, module):
        """Normal weights and zero biases, as BERT starts."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def fuse(self, text, regions):
        """What heads on both streams read of the states: the product of the pooled streams.

        (B, T, D), (B, N, E) -> (B, C); the sum instead if the config says so.
        """
        pooled, seen = self.bert.t_pooler(text), self.bert.v_pooler(regions)
        return self.dropout(pooled * seen if self.config.fusion_method == "mul" else pooled + seen)


def with_global_region(features, places, valid):
    """Regions with one more in front, as Facebook's reader gives them to the published trunks.

    The global region has the mean of the valid regions' features, zeros if there is none, and
    the whole image as its place. It is what the pooler reads.

    Parameters
    ----------
    features (B, N, F), places (B, N, 5), valid : bool (B, N)

    Returns
    -------
    the same three with N + 1 regions
    """
    weights = valid[..., None].to(features.dtype)
    count = weights.sum(1, keepdim=True).clamp(min=1)
    mean = (features * weights).sum(1, keepdim=True) / count
    place = places.new_tensor([0, 0, 1, 1, 1]).expand(len(places), 1, 5)
    features, places = torch.cat([mean, features], 1), torch.cat([place, places], 1)
    return features, places, F.pad(valid, (1, 0), value=True)
