"""What the models on regions share that are built of unmodified classes of transformers."""

from dataclasses import fields

from transformers import PreTrainedConfig

from ..registry import unknown
from ..table import DataError
from .regions import settings_beside

# Labels of a binary head: the logit is the difference of their scores.
CLASSES = 2


def region_config(config_class, weights, published, run, sizes):
    """A config of transformers: what lies beside the weights, or else what follows from the run.

    Parameters
    ----------
    config_class : its defaults are the published sizes
    weights : folder or file, or None
    published : {key: value}, where the published files differ from these defaults
    run : {key: value}, sizes of a network that starts from scratch
    sizes : {key: value} over all others, or None

    Raises
    ------
    ValueError naming every key of `sizes` that is unknown; DataError if the weights are those of
    another architecture.
    """
    shared = {field.name for field in fields(PreTrainedConfig)}
    known = [field.name for field in fields(config_class) if field.name not in shared]
    problems = [unknown("key", key, known) for key in sizes or {} if key not in known]
    if problems:
        raise ValueError("sizes: " + "; ".join(problems))
    values = run if weights is None else {**published, **settings_beside(weights)}
    found = values.get("model_type", config_class.model_type)
    if found != config_class.model_type:
        problem = f"{weights}: model_type: found {found}, expected {config_class.model_type}"
        raise DataError("weights", [problem])
    return config_class.from_dict({**values, **(sizes or {})})


def stock_name(name, base):
    """A name in the file of any class of one architecture, in its classes with heads.

    base : prefix of the trunk in these, such as "lxmert"
    """
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        if name.endswith(old):
            name = name.removesuffix(old) + new
    if name.startswith("bert."):
        return f"{base}.{name.removeprefix('bert.')}"
    return f"{base}.{name}" if name.startswith(("embeddings.", "encoder.", "pooler.")) else name


def probabilities(attention):
    """The leaf that the map of an attention module of transformers passes: its dropout.

    These modules return their maps only in part, and never while they train.
    """
    return attention.dropout
