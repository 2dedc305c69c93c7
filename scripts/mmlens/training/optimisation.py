"""The optimiser: parameter groups, learning rates over time, averaged weights."""

import math

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..table import DataError

OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}


def build_optimizer(model, settings):
    """The optimiser of a model's trainable parameters.

    adamw decays weights apart from the gradient (Loshchilov and Hutter 2019); adam adds the decay
    to the gradient. Both run as one fused kernel.

    Parameters
    ----------
    settings : the config's section training

    Raises
    ------
    DataError for prefixes in settings["lr_factors"] that no parameter has
    """
    return OPTIMIZERS[settings["optimizer"]](
        parameter_groups(model, settings),
        lr=settings["lr"],
        betas=tuple(settings["betas"]),
        eps=settings["eps"],
        fused=True,
    )


def parameter_groups(model, settings):
    """Groups of parameters of equal learning rate and weight decay.

    The decay is for matrices and kernels only, not for biases, norms and single vectors. The rate
    is settings["lr"] times the factor of the longest prefix in settings["lr_factors"] that the
    parameter's name has; settings["stem_lr_factor"] counts as the factor of the prefix that is the
    convolutional stem, unless there is another one of it.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    factors = settings["lr_factors"]
    check_prefixes("training.lr_factors", factors, [name for name, _ in named])
    factors = dict.fromkeys(stem_prefixes(model), settings["stem_lr_factor"]) | factors
    groups = {}
    for name, parameter in named:
        prefixes = [prefix for prefix in factors if name.startswith(prefix)]
        factor = factors[max(prefixes, key=len)] if prefixes else 1.0
        groups.setdefault((factor, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": settings["lr"] * factor,
            "weight_decay": settings["weight_decay"] if decayed else 0,
        }
        for (factor, decayed), parameters in groups.items()
    ]


def stem_prefixes(model):
    """What the names of the parameters of a model's convolutional stem begin with; none without."""
    stem = getattr(model, "image_stem", None)
    return [name for name, part in model.named_modules() if stem is not None and part is stem]


def check_prefixes(key, prefixes, names):
    """DataError that lists the prefixes which none of the names has, and the known beginnings."""
    unmatched = [prefix for prefix in prefixes if not any(n.startswith(prefix) for n in names)]
    if unmatched:
        known = ", ".join(sorted({".".join(name.split(".")[:2]) for name in names}))
        raise DataError(
            "the model and section training do not agree",
            [
                f"{key}: found {prefix!r}, which no trainable parameter begins with; expected the "
                f"beginning of names such as {known}"
                for prefix in unmatched
            ],
        )


def build_schedule(optimizer, steps, settings):
    """Learning rate over `steps` steps; ValueError if the warm-up takes all of them."""
    warmup = warmup_steps(settings["warmup"], steps)
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: rate_factor(step, steps, warmup, settings["schedule"])
    )


def warmup_steps(warmup, steps):
    """Number of steps over which the rate rises, of `steps` in all.

    warmup : below 1 a share of the steps, else a number of them; ValueError if that is not less
        than all
    """
    start = round(warmup * steps) if warmup < 1 else round(warmup)
    if start >= steps and warmup:
        raise ValueError(
            f"training.warmup: found {warmup}, which is {start} of {steps} steps; expected fewer, "
            "or the rate never reaches training.lr; lower it or raise training.epochs"
        )
    return max(1, start)


def rate_factor(step, steps, warmup, schedule):
    """Factor of the learning rate: linear over `warmup` steps, then as the schedule says.

    schedule : cosine or linear, how it falls to 0; constant, it does not
    """
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * done)) if schedule == "cosine" else 1 - done


def build_average(model, decay):
    """A copy of the model whose weights are to be the exponential moving average of its own.

    It starts with the weights after the first step; average <- decay average + (1 - decay) weights
    after every other one. Statistics of batch norms are those of the model itself. None without a
    decay.
    """
    if decay is None:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
