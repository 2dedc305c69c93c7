"""Texts alone, by the stock classifiers of transformers: BERT, RoBERTa, DistilBERT, GPT-2, ..."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertForSequenceClassification,
    DistilBertForSequenceClassification,
    ElectraForSequenceClassification,
    GPT2ForSequenceClassification,
    PreTrainedModel,
    RobertaForSequenceClassification,
    XLMRobertaForSequenceClassification,
)

from ..datasets.vocabulary import PAD
from ..table import DataError
from . import register_model
from .base import Edge, Tokens
from .folders import folder_of
from .inputs import own_inputs
from .regions import additive_mask, check_fits, run_needs, tokenizer_folder
from .stock import (
    CLASSES,
    MOST_TOKENS,
    StockModel,
    checkpoint_inputs,
    difference,
    known_type,
    last_of,
    load_network,
    stock_config,
)

LAYERS = 4  # of a network that starts from scratch


@dataclass(frozen=True)
class Family:
    """Where the parts of a stock classifier are.

    network : its class; trunk : name of the encoder in it
    embed : function of trunk and input ids (B, T) -> what its first layer reads, (B, T, D)
    layers : path of the list of layers in the trunk
    attention : path in a layer of the module whose output is (states, attention map)
    score : function of network and the state (B, 1, D) of the token that is read -> scores (B, C)
    heads : beginnings of names that a checkpoint of another class may lack
    norm : path in the trunk of what follows the last layer, if anything does
    causal : whether a token reads only those before it, so that the last one knows the text
    feed_forward : key of the config of the width inside a layer, if it does not follow from others
    """

    network: type[PreTrainedModel]
    trunk: str
    embed: Callable
    layers: str
    attention: str
    score: Callable
    heads: tuple
    norm: str | None = None
    causal: bool = False
    feed_forward: str | None = "intermediate_size"


def embed_words(trunk, ids):
    return trunk.embeddings(ids)


def embed_electra(trunk, ids):
    x = trunk.embeddings(ids)
    return trunk.embeddings_project(x) if hasattr(trunk, "embeddings_project") else x


def embed_gpt2(trunk, ids):
    places = torch.arange(ids.shape[1], device=ids.device)
    return trunk.drop(trunk.wte(ids) + trunk.wpe(places))


def score_bert(network, hidden):
    return network.classifier(network.dropout(network.bert.pooler(hidden)))


def score_roberta(network, hidden):
    return network.classifier(hidden)


def score_distilbert(network, hidden):
    pooled = network.pre_classifier(hidden[:, 0]).relu()
    return network.classifier(network.dropout(pooled))


def score_gpt2(network, hidden):
    return network.score(hidden[:, 0])


BERT = Family(
    BertForSequenceClassification,
    trunk="bert",
    embed=embed_words,
    layers="encoder.layer",
    attention="attention.self",
    score=score_bert,
    heads=("bert.pooler.", "classifier."),
)
ROBERTA = replace(
    BERT,
    network=RobertaForSequenceClassification,
    trunk="roberta",
    score=score_roberta,
    heads=("classifier.",),
)
# By the model_type of their configs.
FAMILIES = {
    "bert": BERT,
    "distilbert": Family(
        DistilBertForSequenceClassification,
        trunk="distilbert",
        embed=embed_words,
        layers="transformer.layer",
        attention="attention",
        score=score_distilbert,
        heads=("pre_classifier.", "classifier."),
        feed_forward="hidden_dim",
    ),
    "electra": replace(
        ROBERTA,
        network=ElectraForSequenceClassification,
        trunk="electra",
        embed=embed_electra,
    ),
    "gpt2": Family(
        GPT2ForSequenceClassification,
        trunk="transformer",
        embed=embed_gpt2,
        layers="h",
        attention="attn",
        score=score_gpt2,
        heads=("score.",),
        norm="ln_f",
        causal=True,
        feed_forward=None,
    ),
    "roberta": ROBERTA,
    "xlm-roberta": replace(ROBERTA, network=XLMRobertaForSequenceClassification),
}


@register_model("text", modalities=("text",))
class Text(StockModel):
    """A stock text encoder with its own classification head, as a baseline without images.

    The head reads the first token, or, of a causal network such as GPT-2, the last one. Since GPT-2
    puts no special tokens around a text, the one that ends a document is added there: the head
    reads it (as in GPT, Radford et al. 2018), it is no word, and it stays when all words are
    removed.

    Parameters
    ----------
    vocabulary_size, max_length : number of words and of text tokens
    features, image_size : not used
    width, heads : of a network that starts from scratch: 4 layers, no dropout
    weights : folder of save_pretrained, of any class of its architecture; None to start from
        scratch. A head of two classes is read, any other size stays fresh
    outputs : 1 for the logit of label 1, else the number of answers, whose head is always fresh
    architecture : one of FAMILIES; by default that of the weights, without them bert
    sizes : {key of its config: value}, over those of the weights or of the width
    tokenizer : folder of the tokenizer, if it does not lie beside the weights
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
        architecture=None,
        sizes=None,
        tokenizer=None,
    ):
        super().__init__()
        known = known_type(self.name, weights, architecture, list(FAMILIES))
        family = self.family = FAMILIES[known]
        run = small_sizes(family, vocabulary_size, max_length, width, heads)
        config = stock_config(family.network.config_class, weights, {}, run, sizes)
        places = max_length + first_place(config.model_type, config.pad_token_id)
        needs = run_needs(vocabulary_size, places)
        layers = (2, "of which the last but one is what Grad-CAM reads")
        check_fits(self.name, config, least={**needs, "num_hidden_layers": layers})
        config.num_labels = CLASSES if outputs == 1 else outputs
        self.grid, self.outputs = None, outputs
        if weights is None:
            self.network = family.network(config)
        else:
            fresh = family.heads if outputs > 1 else ()
            self.network, self.report = load_network(
                family.network, folder_of(weights), config, family.heads, fresh
            )

    @classmethod
    def input_spec(cls, settings, tokenizer, max_length=None):
        weights = settings.get("weights")
        architecture = known_type(cls.name, weights, settings.get("architecture"), list(FAMILIES))
        folder = tokenizer_folder(cls.name, settings, published=architecture)
        if folder is None:
            return own_inputs(tokenizer, max_length=max_length)
        most, end = MOST_TOKENS, None
        if weights is not None:
            config_class = FAMILIES[architecture].network.config_class
            config = stock_config(config_class, weights, {}, {}, settings.get("sizes"))
            first = first_place(architecture, config.pad_token_id)
            most = min(most, config.max_position_embeddings - first)
            end = config.eos_token_id
        spec = checkpoint_inputs(folder, tokenizer, max_length, cls.modalities, False, most)
        if FAMILIES[architecture].causal:
            add_end(spec.tokenizer, end, folder)
        return spec

    @property
    def trunk(self):
        return getattr(self.network, self.family.trunk)

    @property
    def layers(self):
        return self.trunk.get_submodule(self.family.layers)

    @property
    def causal_streams(self):
        return ("text",) if self.family.causal else ()

    def embed_text(self, batch):
        """Tokens of the words, each with its place in the text."""
        values = self.family.embed(self.trunk, batch.input_ids)
        return Tokens(values, batch.text_valid, batch.text_content)

    def encode(self, tokens):
        text = tokens["text"]
        x, mask = text.values, self.mask(text)
        for layer in self.layers:
            x = layer(x, attention_mask=mask)
        if self.family.norm:
            x = self.trunk.get_submodule(self.family.norm)(x)
        rows = torch.arange(len(x), device=x.device)
        return {"text": x, "read": x[rows, self.read_row(text)][:, None]}

    def read_row(self, text):
        """The token that the head reads: its number, or long (B,)."""
        return last_of(text.valid) if self.family.causal else 0

    def mask(self, text):
        """What is added to the scores of attention: 0, or the lowest number where none may count.

        (B, 1, 1, T), of a causal network (B, 1, T, T).
        """
        if not self.family.causal:
            return additive_mask(text.valid, text.values.dtype)
        count = text.valid.shape[1]
        seen = text.valid[:, None].expand(-1, count, -1).tril()
        return additive_mask(seen.flatten(0, 1), text.values.dtype).view(-1, 1, count, count)

    def layout(self, tokens):
        return replace(super().layout(tokens), readouts=(("text", self.read_row(tokens["text"])),))

    def classify(self, hidden):
        scores = self.family.score(self.network, hidden["read"])
        return difference(scores) if self.outputs == 1 else scores

    def edges(self):
        attentions = [layer.get_submodule(self.family.attention) for layer in self.layers]
        return [Edge(attention, "text", "text", item=1) for attention in attentions]

    def grad_cam_layers(self):
        """What the last layer reads: after it only one token reaches the classifier."""
        return {"text": self.layers[-2]}


def small_sizes(family, vocabulary_size, max_length, width, heads):
    """Sizes of a network that starts from scratch, by the keys of its config, without dropout."""
    config_class = family.network.config_class
    names = [field.name for field in fields(config_class)]
    small = {name: 0.0 for name in names if name.endswith(("dropout", "dropout_prob", "pdrop"))}
    sizes = {
        "vocab_size": vocabulary_size,
        "pad_token_id": PAD,
        "bos_token_id": None,
        "eos_token_id": None,
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_hidden_layers": LAYERS,
        "max_position_embeddings": max_length + first_place(config_class.model_type, PAD),
        "initializer_range": width**-0.5,
    }
    small |= {config_class.attribute_map.get(key, key): value for key, value in sizes.items()}
    if family.feed_forward:
        small[family.feed_forward] = 4 * width
    if "embedding_size" in names:
        small["embedding_size"] = width
    return small


def first_place(architecture, pad):
    """Row of the position table that the first token takes: in RoBERTa's, after that of padding."""
    return pad + 1 if architecture in ("roberta", "xlm-roberta") else 0


def add_end(tokenizer, end, folder):
    """Let a tokenizer without special tokens add the one that ends a document to every text.

    end : its number; folder : of the tokenizer, for the DataError if there is none
    """
    if tokenizer.num_special_tokens_to_add(is_pair=False):
        return
    token = None if end is None else tokenizer.id_to_token(end)
    if token is None:
        problem = f"{folder}: eos_token_id: found {end}, expected a token that ends a text"
        raise DataError("variants", [problem])
    tokenizer.post_processor = TemplateProcessing(
        single=f"$A {token}", special_tokens=[(token, end)]
    )
