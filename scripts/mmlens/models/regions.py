"""What the published models on cached regions share: their words, sizes and weights."""

from pathlib import Path

import torch
import torch.nn.functional as F

from ..table import DataError
from .folders import folder_of
from .released import ReleasedModel

# Files of a folder that a tokenizer can be read from: one, or several that need each other.
TOKENIZERS = (("tokenizer.json",), ("tokenizer_config.json",), ("vocab.txt", "config.json"))
TOKENIZERS += (("vocab.json", "merges.txt", "config.json"),)


class RegionModel(ReleasedModel):
    """Base of the models that read regions of a detector and, published, the words of BERT."""

    masked_words = True

    @classmethod
    def input_spec(cls, settings, tokenizer, max_length=None):
        folder = tokenizer_folder(cls.name, settings)
        if folder is None:
            return super().input_spec(settings, tokenizer, max_length)
        # Here, since a job without published words need not wait for transformers.
        from .stock import checkpoint_inputs

        return checkpoint_inputs(folder, tokenizer, max_length, cls.modalities, pixels=False)


def tokenizer_folder(model, settings, published="bert-base-uncased"):
    """Folder of the tokenizer that a model's settings ask for; None for the run's own.

    It is the argument tokenizer, or what lies beside the weights.

    published : name of the one that the published weights were trained with

    Raises
    ------
    DataError if there is none: published weights know nothing of the run's own words.
    """
    weights, named = settings.get("weights"), settings.get("tokenizer")
    if weights is None and named is None:
        return None
    folder = Path(named) if named is not None else folder_of(weights)
    if any(all((folder / name).is_file() for name in names) for names in TOKENIZERS):
        return folder
    problem = (
        f"{model}: {folder} holds no tokenizer (tokenizer.json); set arguments.tokenizer to the "
        f"folder of the one that the weights were trained with, that of {published}"
    )
    raise DataError("variants", [problem])


def check_fits(model, config, least=None, exact=None):
    """ValueError naming every size of a config that does not fit the run.

    least, exact : {key of the config: (number that it must be or exceed, what that is)}
    """
    problems = [
        f"{key}: found {getattr(config, key)}, expected {how} {wanted}, {what}"
        for how, needs in (("at least", least or {}), ("exactly", exact or {}))
        for key, (wanted, what) in needs.items()
        if getattr(config, key) < wanted or (how == "exactly" and getattr(config, key) != wanted)
    ]
    if problems:
        raise ValueError(f"{model}: " + "; ".join(problems))


def run_needs(vocabulary_size, max_length):
    """What every config must have at least, for `check_fits`."""
    return {
        "vocab_size": (vocabulary_size, "the number of words of the tokenizer"),
        "max_position_embeddings": (max_length, "the length of the run's texts"),
    }


def some_region(values, valid):
    """Regions such that every sample has one: one of zeros where there is none.

    values : (B, N, F); valid : bool (B, N), False for padding, which comes out as zeros

    Returns
    -------
    both, with N or, if that is 0, one region
    """
    if not values.shape[1]:  # all were removed
        values, valid = F.pad(values, (0, 0, 0, 1)), F.pad(valid, (0, 1))
    none = ~valid.any(1, keepdim=True)
    values = values.masked_fill(~valid[..., None], 0)
    return values, torch.cat([valid[:, :1] | none, valid[:, 1:]], 1)


def additive_mask(valid, dtype):
    """Bool (B, N) -> (B, 1, 1, N): 0, or the lowest number where a score must not count."""
    mask = torch.zeros(valid.shape, dtype=dtype, device=valid.device)
    return mask.masked_fill(~valid, torch.finfo(dtype).min)[:, None, None, :]
