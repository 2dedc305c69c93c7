"""Low-rank adapters (LoRA, Hu et al. 2022) by peft, an optional dependency."""

import importlib.util

import torch
from torch import nn

from ..files import seed_from
from ..table import DataError
from .optimisation import check_prefixes


def add_adapters(model, settings, seed):
    """Put adapters on linear layers of `model`, in place, and freeze everything else.

    A layer W gets W + alpha / rank B A with trainable A (rank, inputs) and B (outputs, rank); B is
    0 at first.

    Parameters
    ----------
    settings : dict with rank, alpha, dropout, targets (ends of names of linear layers, whole parts
        between dots) and whole (beginnings of names of parameters that are trained as they are,
        such as those of a fresh head), or None for no adapters
    seed : of A

    Returns
    -------
    what `merge_adapters` takes

    Raises
    ------
    ModuleNotFoundError without peft; DataError for names that the model does not have
    """
    if settings is None:
        return None
    if importlib.util.find_spec("peft") is None:
        raise ModuleNotFoundError("training.lora needs peft; install it: pip install peft")
    from peft import LoraConfig, LoraModel

    check_targets(model, settings["targets"])
    whole = tuple(settings["whole"])
    check_prefixes("training.lora.whole", whole, [name for name, _ in model.named_parameters()])
    torch.manual_seed(seed_from("lora", seed))
    config = LoraConfig(
        r=settings["rank"],
        lora_alpha=settings["alpha"],
        lora_dropout=settings["dropout"],
        target_modules=settings["targets"],
    )
    adapters = LoraModel(model, config, "default")
    for name, parameter in model.named_parameters():
        if whole and name.startswith(whole):
            parameter.requires_grad_(True)
    return adapters


def merge_adapters(adapters):
    """Add the adapters to the weights they belong to: the model is again what it was built as."""
    if adapters is not None:
        adapters.merge_and_unload()


def check_targets(model, targets):
    """DataError for ends of names that no linear layer has."""
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    unmatched = [t for t in targets if not any(f".{name}".endswith(f".{t}") for name in names)]
    if unmatched:
        known = ", ".join(sorted({name.split(".")[-1] for name in names}))
        problems = [
            f"training.lora.targets: found {target!r}, which no linear layer ends with; expected "
            f"ends such as {known}"
            for target in unmatched
        ]
        raise DataError("the model and section training do not agree", problems)
