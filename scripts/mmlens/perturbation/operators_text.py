"""Operators that change the words and embed the text again."""

from dataclasses import replace

import torch
import torch.nn.functional as F

from ..explanation import NotApplicableError
from . import register_operator
from .operators import Whole, needed


class Words(Whole):
    """Base of what puts other pieces in the place of removed ones."""

    def __init__(self, model, modality, tokens, inputs=None):
        self.batch = needed(inputs, self.name).batch
        super().__init__(model, modality, tokens, inputs)

    def removable(self):
        return self.batch.text_content  # a model may add tokens of its own

    def embedded(self, ids, valid, content):
        """{"text": Tokens} of other texts: long (K, T), bool (K, T), bool (K, T)."""
        batch = replace(self.batch, input_ids=ids, text_valid=valid, text_content=content)
        return {"text": self.model.embed_text(batch)}

    def show(self, rows, plans):
        ids = torch.where(plans, self.batch.input_ids[rows], self.others(rows))
        return self.embedded(ids, self.batch.text_valid[rows], self.content[rows])


@register_operator("mask_token", modalities=("text",))
class MaskToken(Words):
    """The tokenizer's [MASK] stands in the place of every piece."""

    def __init__(self, model, modality, tokens, inputs=None):
        super().__init__(model, modality, tokens, inputs)
        if inputs.spec.mask_id is None:
            raise NotApplicableError("its tokenizer has no [MASK]")

    def others(self, rows):
        return self.batch.input_ids.new_tensor(self.inputs.spec.mask_id)


@register_operator("resample", modalities=("text",), sources="words")
class Resample(Words):
    """Pieces of other texts stand in the places of removed ones, one draw per sample (sources.py).

    Marginalisation by one draw from the words of the data (Kim et al. 2020, unigram sampling, by
    place).
    """

    def __init__(self, model, modality, tokens, inputs=None):
        super().__init__(model, modality, tokens, inputs)
        if inputs.words is None:
            raise NotApplicableError("there is no text of another cluster")

    def others(self, rows):
        return self.inputs.words[rows]


@register_operator("delete", modalities=("text",))
class Delete(Words):
    """The text without the removed pieces: those behind them move up, to other positions."""

    def __init__(self, model, modality, tokens, inputs=None):
        super().__init__(model, modality, tokens, inputs)
        self.valid = self.batch.text_valid.cpu()

    def plan(self, sample, kept):
        """Positions of the pieces that remain."""
        return (super().plan(sample, kept) & self.valid[sample]).nonzero()[:, 0]

    def show(self, rows, plans):
        fields = ("input_ids", "text_valid", "text_content")
        parts = [getattr(self.batch, field)[rows].gather(1, plans) for field in fields]
        if self.inputs.spec.fill:  # every text has its full length, by padding that is read
            missing = self.batch.input_ids.shape[1] - plans.shape[1]
            values = (self.inputs.spec.pad_id, True, False)
            pairs = zip(parts, values, strict=True)
            parts = [F.pad(part, (0, missing), value=value) for part, value in pairs]
        return self.embedded(*parts)
