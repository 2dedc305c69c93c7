"""Operators: how words and patches are removed. Here those that work on tokens."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch

from ..explanation import NotApplicableError
from ..explanation.layers import steps_of
from ..models.inputs import Batch, InputSpec
from . import OPERATORS, register_operator


@dataclass(frozen=True)
class Inputs:
    """What operators need that go back to the pixels and words of N samples.

    batch : Batch of the N samples, with an image of its own for each
    spec : InputSpec of the model
    donors : float (N, 3, H, W), the processed image of another cluster for each (sources.py); None
        if no operator asks for it
    words : long (N, T), another text's piece for every place (sources.py); None likewise
    """

    batch: Batch
    spec: InputSpec
    donors: torch.Tensor | None = None
    words: torch.Tensor | None = None


class Operator(ABC):
    """How a model sees samples of which some words or patches of one modality are removed.

    Parameters
    ----------
    model : Model
    modality : "text", "image" or "joint"
    tokens : {modality: Tokens} of N samples, from `model.embed`
    inputs : Inputs, or None where there are tokens only

    Raises
    ------
    NotApplicableError with the reason.
    """

    def __init__(self, model, modality, tokens, inputs=None):
        self.model, self.modality = model, modality
        self.tokens, self.inputs = tokens, inputs

    @abstractmethod
    def plan(self, sample, kept):
        """A 1-D tensor on the CPU that says what is shown of a sample; equal lengths go together.

        kept : sorted numbers of the words or patches that remain, of those that may be removed
        """

    @abstractmethod
    def show(self, rows, plans):
        """{modality: Tokens} of K subsets; rows : long (K,), their samples; plans : (K, L)."""

    @property
    def whole(self):
        """Number of tokens of a sample, of both modalities and with padding."""
        return sum(own.values.shape[1] for own in self.tokens.values())

    def size(self, length):
        """Number of tokens, of both modalities, of a subset whose plan has this length."""
        return self.whole

    def answers(self, tokens):
        """Function (rows, plans) -> logits of K subsets; what is not shown is as in `tokens`."""

        def logits(rows, plans):
            shown = self.show(rows, plans)
            kept = {m: t.rows(rows) for m, t in tokens.items() if m not in shown}
            return self.model.logits({**shown, **kept})

        return logits


class Gathered(Operator):
    """Base of what removes tokens by gathering the others: fewer tokens, less to compute."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        own = self.tokens[self.modality]
        self.places = [row.nonzero()[:, 0] for row in own.content.cpu()]
        self.always = [row.nonzero()[:, 0] for row in (own.valid & ~own.content).cpu()]

    def plan(self, sample, kept):
        """Positions of the tokens that remain; special tokens always do, in their places."""
        remaining = self.places[sample][list(kept)]
        return torch.cat([self.always[sample], remaining]).sort().values

    def show(self, rows, plans):
        return {self.modality: self.tokens[self.modality].gather(plans, rows)}

    def size(self, length):
        return self.whole - self.tokens[self.modality].values.shape[1] + length

    def answers(self, tokens):
        own = {**tokens, self.modality: self.tokens[self.modality]}
        return self.model.removal(own, self.modality)


@register_operator("token_drop", modalities=("image", "text"))
class TokenDrop(Gathered):
    """Removed at the input of the model's transformer layers; all others keep their positions."""


@register_operator("encoded_drop", modalities=("image", "text"))
class EncodedDrop(Gathered):
    """Removed after the layers in which a modality reads no other one.

    What remains still knows of what was removed. This is how published tests of METER remove
    patches.
    """

    def __init__(self, model, modality, tokens, inputs=None):
        prepared = model.prepare(modality, tokens[modality])
        if not prepared.prepared:
            raise NotApplicableError(f"it has no layers that read {modality} alone")
        if not is_read(model, modality):
            raise NotApplicableError(f"after its {modality} layers only one token is read")
        super().__init__(model, modality, {**tokens, modality: prepared}, inputs)

    def plan(self, sample, kept):
        if not len(self.places[sample]) + len(self.always[sample]):
            return torch.zeros(1, dtype=torch.long)  # what the layers made of an image of no region
        return super().plan(sample, kept)


def is_read(model, stream):
    """Whether another stream of the model attends to this one."""
    return any(edge.key == stream != edge.query for step in steps_of(model) for edge in step)


@register_operator(
    "region_drop",
    modalities=("image",),
    arguments={"overlap": {"type": "number", "exclusiveMinimum": 0, "maximum": 1}},
)
class RegionDrop(Gathered):
    """A region goes, and with it every other whose box overlaps its own by more than `overlap`.

    Else a removed object is still seen in the boxes around its own.

    overlap : intersection over union of two boxes
    """

    def __init__(self, model, modality, tokens, inputs=None, overlap=0.5):
        if not model.frozen:
            raise NotApplicableError("its image tokens are patches, which do not overlap")
        super().__init__(model, modality, tokens, inputs)
        batch = needed(inputs, "region_drop").batch
        boxes = batch.boxes[batch.image_rows].cpu()
        # The regions are the last tokens; a class token may stand before them.
        valid = self.tokens[modality].content[:, -boxes.shape[1] :].cpu()
        pairs = zip(boxes, valid, strict=True)
        self.overlaps = [box_overlap(own[shown]) > overlap for own, shown in pairs]

    def plan(self, sample, kept):
        overlaps = self.overlaps[sample]
        removed = torch.ones(len(overlaps), dtype=torch.bool)
        removed[list(kept)] = False
        hidden = removed | overlaps[:, removed].any(1)
        return super().plan(sample, (~hidden).nonzero()[:, 0].tolist())


def box_overlap(boxes):
    """Intersection over union (N, N) of boxes (N, 4), x1 y1 x2 y2; 0 where both are empty."""
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    union = areas[:, None] + areas[None] - both
    return torch.where(union > 0, both / union, 0)


class Whole(Operator):
    """Base of what leaves every token in its place: plans are bool (N,), True for what is shown."""

    def __init__(self, model, modality, tokens, inputs=None):
        super().__init__(model, modality, tokens, inputs)
        self.content = self.removable()
        self.places = [row.nonzero()[:, 0] for row in self.content.cpu()]

    def removable(self):
        """Bool (N, L) of the places that may be removed."""
        return self.tokens[self.modality].content

    def plan(self, sample, kept):
        shown = torch.ones(self.content.shape[1], dtype=torch.bool)
        shown[self.places[sample]] = False
        shown[self.places[sample][list(kept)]] = True
        return shown


@register_operator("attention_mask", modalities=("text",))
class AttentionMask(Whole):
    """The word stays in its place, but nothing attends to it."""

    def show(self, rows, plans):
        own = self.tokens[self.modality].rows(rows)
        return {self.modality: replace(own, valid=own.valid & plans, content=own.content & plans)}


class JointDrop(Operator):
    """Words and patches go together: patches by gathering, words by the attention mask.

    The units of a sample are its patches, then its words.
    """

    def __init__(self, model, modality, tokens, inputs=None):
        super().__init__(model, modality, tokens, inputs)
        if set(tokens) != {"image", "text"}:
            raise NotApplicableError("it reads one modality")
        self.parts = {
            "image": TokenDrop(model, "image", tokens),
            "text": AttentionMask(model, "text", tokens),
        }

    def plan(self, sample, kept):
        """Which words are shown (T,), then the positions of the patches that remain."""
        patches = len(self.parts["image"].places[sample])
        words = self.parts["text"].plan(sample, [k - patches for k in kept if k >= patches])
        seen = self.parts["image"].plan(sample, [k for k in kept if k < patches])
        return torch.cat([words.long(), seen])

    def show(self, rows, plans):
        longest = self.tokens["text"].valid.shape[1]
        words = self.parts["text"].show(rows, plans[:, :longest].bool())
        return {**words, **self.parts["image"].show(rows, plans[:, longest:])}

    def size(self, length):
        return length


def needed(inputs, name):
    """`inputs`; ValueError if an operator that goes back to them has none."""
    if inputs is None:
        raise ValueError(f"operator {name}: found no inputs, expected pixels and words: Inputs")
    return inputs


def build_operator(name, modality, model, tokens, inputs=None, arguments=None):
    """The operator called `name` for one modality; arguments : its keyword arguments."""
    if modality == "joint":
        return JointDrop(model, modality, tokens, inputs)
    return OPERATORS.get(name)(model, modality, tokens, inputs, **(arguments or {}))
