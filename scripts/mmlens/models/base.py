"""The model contract: what training, explanation and perturbation ask of a model.

A model says which tokens it has (`embed`), takes them back with some missing (`forward`), says
where each modality lies (`layout`) and which attention maps it computes in which order
(`edges`). With that, every explanation method and every perturbation runs on every model.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import nn

from .inputs import own_inputs
from .layers import DotProductAttention, RecomputedLayer


@dataclass
class Tokens:
    """Tokens of one modality.

    values : float (B, N, D); valid : bool (B, N), False for padding;
    content : bool (B, N), True for words and patches, which a perturbation may remove;
    prepared : whether they are what `Model.prepare` made of them.
    """

    values: torch.Tensor
    valid: torch.Tensor
    content: torch.Tensor
    prepared: bool = False

    def gather(self, index, rows=None):
        """The tokens at positions `index` (long (B, K)) of every sample, or of samples `rows` (B,).

        In one step, for a sample whose tokens are wanted many times.
        """
        rows = torch.arange(len(index), device=index.device) if rows is None else rows
        return self.rows((rows[:, None], index))

    def rows(self, index):
        """The tokens of the samples `index` (long or bool tensor), or what else indexes them."""
        return replace(
            self, values=self.values[index], valid=self.valid[index], content=self.content[index]
        )

    @classmethod
    def join(cls, parts):
        """The tokens of all samples of several `Tokens`, of one length."""
        fields = ("values", "valid", "content")
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in fields))


@dataclass(frozen=True)
class Span:
    """Where the tokens of a modality lie: columns start to stop of an attention stream."""

    stream: str
    start: int
    stop: int

    @property
    def slice(self):
        return slice(self.start, self.stop)


@dataclass(frozen=True)
class Layout:
    """Where everything is in the attention streams of a batch.

    spans : {modality: Span}; content : {modality: bool (B, N)};
    valid : {stream: bool (B, N)}; grid : (rows, columns) of the image patches;
    readouts : tuple of (stream, row), the tokens that the classifier reads; row is a number, or
        long (B,) where it differs from sample to sample, as the end of a text does.
    """

    spans: dict
    content: dict
    valid: dict
    readouts: tuple
    grid: tuple


@dataclass(frozen=True)
class Edge:
    """One attention map: stream `query` reads stream `key` (self-attention if they are one).

    module : the leaf whose output is the map (B, H, Q, K); call : which of its calls in one
    forward pass, for modules that run more than once; item : place of the map in the output of a
    module that gives a tuple, such as the attention modules of transformers.
    """

    module: nn.Module
    query: str
    key: str
    call: int = 0
    item: int | None = None


@dataclass(frozen=True)
class Parallel:
    """Edges that read the other streams as they were before any of them.

    Those of one query stream follow each other in their order.
    """

    edges: tuple


class Model(nn.Module, ABC):
    """What every model is to training, explanation and perturbation.

    Attributes
    ----------
    grid : (rows, columns) of the image patches; None for regions of any place and size
    image_stem : the convolutional stem that may start pretrained, or None
    """

    image_stem = None

    modalities = ("text", "image")
    frozen = False  # whether the model reads cached features instead of pixels
    trained = True  # whether it can be, rather than being used as its weights are
    masked_words = False  # whether the masked-word objective helps: text states see the image
    contrastive = False  # whether it has `pair_embeddings`
    pair_logit = False  # whether the logit is the similarity of `pair_embeddings`
    readouts = (("text", 0),)  # (stream, row) of the tokens that the classifier reads
    # How many first tokens of a modality are read after its layers `alone`, which then take `read`;
    # None for all.
    read_alone = None
    causal_streams = ()  # whose tokens read only those before them
    attention_implementation = "sdpa"

    @classmethod
    def input_spec(cls, settings, tokenizer, max_length=None):
        """The `InputSpec` of this model, before it is built.

        settings : keyword arguments of the model (image_size, weights, ...)
        tokenizer : path of the run's own tokenizer file, for models without one of their own
        max_length : most text tokens; None for what the model or the run's longest text needs
        """
        side = None if cls.frozen or "image" not in cls.modalities else settings["image_size"]
        return own_inputs(tokenizer, side, max_length)

    def embed_text(self, batch):
        """Tokens of the words, of a model that reads them."""
        raise NotImplementedError(f"{self.name} reads no words")

    def embed_image(self, batch):
        """Tokens of the patches or regions, of a model that reads images."""
        raise NotImplementedError(f"{self.name} reads no images")

    def alone(self, modality, tokens):
        """States (B, N, D) of a modality after the layers in which it reads no other one.

        None where there are no such layers, as in a single stream. Whoever has them begins `encode`
        with `prepare_all`.
        """

    def prepare(self, modality, tokens, read=None):
        """`Tokens` of one modality after its layers `alone`, which `forward` takes in the place of
        those at the input: computed once, where only the other modality changes.

        read : so many first tokens only, of a model with `read_alone`
        """
        first = {} if read is None else {"read": read}
        values = None if tokens.prepared else self.alone(modality, tokens, **first)
        if values is None:
            return tokens
        valid, content = tokens.valid[:, :read], tokens.content[:, :read]
        return Tokens(values, valid, content, prepared=True)

    def prepare_all(self, tokens, read=None):
        """`prepare` of {modality: Tokens}, the image first."""
        return {m: self.prepare(m, tokens[m], read) for m in ("image", "text") if m in tokens}

    @abstractmethod
    def encode(self, tokens):
        """{stream: hidden states (B, N, D)} after the last layer, normalised."""

    @abstractmethod
    def classify(self, hidden):
        """Logits (B,) of label 1, or (B, C) of C answers, from the hidden states of `encode`."""

    @abstractmethod
    def edges(self):
        """Attention maps as a list of Edge and Parallel, in the order of the forward pass."""

    @abstractmethod
    def grad_cam_layers(self):
        """{modality: module} whose output (B, N, D) Grad-CAM reads by default."""

    def layer_of(self, edge):
        """The module whose output is the state (B, N, D) of a self-edge's stream after its layer.

        Here the innermost module around the map that is a layer by its class or stands in a list
        of layers; modules that give a tuple have the state as its first item.
        """
        modules = dict(self.named_modules())
        name = next(name for name, module in modules.items() if module is edge.module)
        while name:
            name = name.rpartition(".")[0]
            above = modules[name.rpartition(".")[0]]
            if isinstance(modules[name], RecomputedLayer) or isinstance(above, nn.ModuleList):
                return modules[name]
        raise ValueError(f"{self.name}: no layer around {type(edge.module).__name__}; add layer_of")

    def as_last(self, state, layer):
        """The state (B, N, D) of a stream after `layer`, in the space of its last layer.

        So the logit lens gives it to the model's own end. Here as it is, since the layers of one
        stream add to one state.
        """
        return state

    def published_answers(self):
        """(linear layer, names), of a head that was read from a file: what its outputs stand for.

        (None, None) where the outputs have no meaning but that of the run.
        """
        return None, None

    def embed(self, batch):
        """{modality: Tokens} of a Batch: what a perturbation may remove tokens from."""
        embedders = {"text": self.embed_text, "image": self.embed_image}
        return {modality: embedders[modality](batch) for modality in self.modalities}

    def embed_shared(self, batch):
        """`embed`, with the image after its layers `alone`, where each image is computed once
        however many samples show it: for `logits`, since with `read_alone` no other token is left.
        """
        images = torch.arange(len(batch.image), device=batch.image_rows.device)
        tokens = self.embed(replace(batch, image_rows=images))
        if "image" in tokens:
            image = self.prepare("image", tokens["image"], self.read_alone)
            tokens["image"] = image.rows(batch.image_rows)
        return tokens

    def forward(self, tokens):
        """Logits of `classify` from {modality: Tokens}, some of which may be missing."""
        return self.classify(self.encode(tokens))

    def logits(self, tokens):
        """What `forward` gives; a model may leave out here what its logits do not depend on."""
        return self(tokens)

    def word_states(self, tokens):
        """What `word_logits` reads of `encode`, likewise."""
        return self.encode(tokens)

    def removal(self, tokens, modality):
        """Function (rows, index) -> logits with only some tokens of one modality.

        rows : long (K,), of the samples of `tokens`; index : long (K, L), the positions in
        `modality` that remain, special tokens among them, rising. A model may compute here, once,
        what no removal changes; this one computes everything for every subset.
        """

        def logits(rows, index):
            part = {m: t.rows(rows) for m, t in tokens.items()}
            part[modality] = part[modality].gather(index)
            return self.logits(part)

        return logits

    def layout(self, tokens):
        """The `Layout` of {modality: Tokens}: here, every modality is a stream of its own."""
        return Layout(
            spans={m: Span(m, 0, t.values.shape[1]) for m, t in tokens.items()},
            content={m: t.content for m, t in tokens.items()},
            valid={m: t.valid for m, t in tokens.items()},
            readouts=self.readouts,
            grid=self.grid,
        )

    def use_attention(self, implementation):
        """Switch all attention to "eager" (maps can be captured) or "sdpa" (fused kernel)."""
        self.attention_implementation = implementation
        for module in self.modules():
            if isinstance(module, DotProductAttention):
                module.eager = implementation == "eager"

    def checkpoint_gradients(self):
        """Let the backward pass compute the inside of all layers again: less memory, more time.

        ValueError if there is no layer that can.
        """
        own = [m for m in self.modules() if isinstance(m, RecomputedLayer)]
        # Networks of transformers say so of themselves.
        stock = [m for m in self.modules() if getattr(m, "supports_gradient_checkpointing", False)]
        if not own and not stock:
            raise ValueError(
                f"training.gradient_checkpointing: {self.name} has no layers that can be computed "
                "again; set it to false"
            )
        for layer in own:
            layer.recompute = True
        for network in stock:
            network.activation_checkpointing_enable()


class SingleStream:
    """Words, then the image's tokens, in one stream, "joint"; read at its first word."""

    readouts = (("joint", 0),)

    def layout(self, tokens):
        text, image = tokens["text"], tokens["image"]
        words = text.values.shape[1]
        return Layout(
            spans={
                "text": Span("joint", 0, words),
                "image": Span("joint", words, words + image.values.shape[1]),
            },
            content={"text": text.content, "image": image.content},
            valid={"joint": torch.cat([text.valid, image.valid], 1)},
            readouts=self.readouts,
            grid=self.grid,
        )


def single(scores):
    """Scores (B, 1) of one output as (B,), those (B, C) of several as they are."""
    return scores[:, 0] if scores.shape[1] == 1 else scores
