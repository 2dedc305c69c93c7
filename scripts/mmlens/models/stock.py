"""What the models built of unmodified classes of transformers share."""

from dataclasses import fields
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedConfig

from ..features.vision_transformers import read_processor
from ..registry import unknown
from ..table import DataError
from .base import Tokens
from .folders import SETTINGS, folder_of, is_export, settings_beside
from .inputs import InputSpec, own_inputs
from .released import LoadReport, ReleasedModel, print_labels

CLASSES = 2  # of a binary head, whose logit is the difference of their scores
MOST_TOKENS = 128  # of a text, where nothing else is asked for
INDEX = "model.safetensors.index.json"  # of weights in several files


class StockModel(ReleasedModel):
    """Base of the models whose `network` is a stock class, perhaps with a head of our own.

    The network is used as it is: its submodules are called in the order of its own forward pass,
    with the tokens of `embed` in the place of its embeddings.
    """

    @classmethod
    def input_spec(cls, settings, tokenizer, max_length=None):
        weights = settings.get("weights")
        if weights is None:
            return super().input_spec(settings, tokenizer, max_length)
        pixels = "image" in cls.modalities and not cls.frozen
        folder = folder_of(weights)
        return checkpoint_inputs(folder, tokenizer, max_length, cls.modalities, pixels)

    def use_attention(self, implementation):
        super().use_attention(implementation)
        self.network.set_attn_implementation(implementation)


def checkpoint_inputs(
    folder, tokenizer, max_length, modalities, pixels, most=MOST_TOKENS, kind=AutoTokenizer
):
    """`InputSpec` of the tokenizer and the image processor that lie beside a checkpoint.

    tokenizer : path of the run's own, for a checkpoint of a model that reads no words
    most : text tokens where max_length is None and the tokenizer makes no fewer
    kind : class of transformers that reads the tokenizer
    """
    geometry = mean = std = None
    if pixels:
        geometry, mean, std = read_processor(folder)
    if "text" not in modalities:
        own = own_inputs(tokenizer, max_length=max_length)
        return InputSpec(own.tokenizer, own.max_length, own.pad_id, None, geometry, mean, std)
    found = kind.from_pretrained(folder)
    most = min(found.model_max_length, max_length or most)
    if max_length and max_length > most:
        problem = (
            f"{folder}: max_length: found {max_length}, but its tokenizer makes at most {most} "
            "tokens; lower it"
        )
        raise DataError("variants", [problem])
    pad = found.pad_token_id or 0
    return InputSpec(found.backend_tokenizer, most, pad, found.mask_token_id, geometry, mean, std)


def check_geometry(weights, geometry, image_size):
    """DataError if the image processor beside weights makes images of another size."""
    found = (geometry.height, geometry.width)
    if found != (image_size, image_size):
        problem = (
            f"{folder_of(weights)}: preprocessor_config.json makes images of {found[0]} x "
            f"{found[1]} pixels; expected {image_size} x {image_size}, as config.json has it"
        )
        raise DataError("weights", [problem])


def load_network(architecture, folder, config=None, heads=(), fresh=(), **options):
    """A stock network with the weights of a checkpoint, and the `LoadReport` of what it held.

    The report is printed too, with the names of the labels that a head was read for.

    Parameters
    ----------
    architecture : class of transformers
    folder : in the format of save_pretrained
    config : of the network, by default that of the checkpoint
    heads : prefixes of names that a checkpoint may lack, or have in another size: such a head keeps
        fresh weights as a whole
    fresh : those of `heads` that do so whatever the checkpoint holds
    options : further arguments of from_pretrained

    Raises
    ------
    DataError naming every tensor of the trunk that is missing or of another shape.
    """
    folder = Path(folder)
    if is_export(folder):  # which holds the state of the whole model, read when it is built
        return architecture(config), LoadReport(str(folder), (), {}, (), ())
    check_checkpoint(folder)
    places = settings_beside(folder).get("position_embedding_type", "absolute")
    if places != "absolute":  # of which transformers has no more code, and drops the tensors
        problem = f"{folder}: position_embedding_type: found {places}, expected absolute"
        raise DataError("weights", [problem])
    options = {"config": config, "dtype": "float32", **options}
    network, found = architecture.from_pretrained(
        folder,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        use_safetensors=True,
        **options,
    )
    missing = found["missing_keys"]
    shapes = {name: (tuple(own), tuple(wanted)) for name, own, wanted in found["mismatched_keys"]}
    unread = tuple(
        head
        for head in heads
        if head in fresh or any(n.startswith(head) for n in [*missing, *shapes])
    )
    problems = [f"{folder}: no {name}" for name in sorted(missing) if not name.startswith(unread)]
    problems += [
        f"{folder}: {name} has shape {shapes[name][0]}; expected {shapes[name][1]}"
        for name in sorted(shapes)
        if not name.startswith(unread)
    ]
    if problems:
        raise DataError("weights", problems)
    state = network.state_dict()
    lacking = tuple(name for name in state if name.startswith(unread))
    if lacking:
        own = architecture(network.config).state_dict()
        for name in lacking:
            state[name].copy_(own[name])
    names = tuple(name for name in state if name not in set(lacking))
    unexpected = (*sorted(found["unexpected_keys"]), *(n for n in lacking if n not in missing))
    report = LoadReport(str(folder), names, {}, unexpected, lacking)
    print(report)
    if heads and not lacking:
        print_labels(folder)
    return network, report


def check_checkpoint(folder):
    """DataError if a folder is no checkpoint in the format of save_pretrained."""
    wanted = {SETTINGS: [SETTINGS], "model.safetensors": ["model.safetensors", INDEX]}
    problems = [
        f"{folder}: no {name}; expected a folder in the format of save_pretrained"
        for name, files in wanted.items()
        if not any((folder / file).is_file() for file in files)
    ]
    if problems:
        raise DataError("weights", problems)


def image_tokens(values, special):
    """`Tokens` of an image: `values` (B, N, D), of which the first `special` are no patches."""
    valid = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
    content = valid.clone()
    content[:, :special] = False
    return Tokens(values, valid, content)


def last_of(valid):
    """Number (B,) of the last valid token: where a text ends, padding apart."""
    return (torch.arange(valid.shape[1], device=valid.device) * valid).amax(1)


def difference(scores):
    """Logit (B,) of label 1 from the scores (B, 2) of a two-class head."""
    return scores[:, 1] - scores[:, 0]


def stock_config(config_class, weights, published, run, sizes):
    """A config of transformers: what lies beside the weights, or else what follows from the run.

    Parameters
    ----------
    config_class : its defaults are the published sizes
    weights : folder or file, or None
    published : {key: value}, where the published files differ from these defaults
    run : {key: value}, sizes of a network that starts from scratch
    sizes : {key: value} over all others, or None; for an architecture of several parts
        {part: {key: value}}, such as text_config

    Raises
    ------
    ValueError naming every key of `sizes` that is unknown; DataError if the weights are those of
    another architecture.
    """
    sizes = sizes or {}
    problems = unknown_sizes(config_class, sizes)
    if problems:
        raise ValueError("sizes: " + "; ".join(problems))
    values = run if weights is None else {**published, **settings_beside(weights)}
    found = values.get("model_type", config_class.model_type)
    if found != config_class.model_type:
        problem = f"{weights}: model_type: found {found}, expected {config_class.model_type}"
        raise DataError("weights", [problem])
    parts = {}
    for key in config_class.sub_configs:
        # Old files hold a part under two names, of which the longer one counts.
        own = values.get(f"{key}_dict") or values.get(key) or {}
        parts |= {key: {**own, **sizes.get(key, {})}} if own or key in sizes else {}
    values = {key: value for key, value in values.items() if not key.endswith("_config_dict")}
    return config_class.from_dict({**values, **sizes, **parts})


def unknown_sizes(config_class, sizes):
    """Messages about keys of `sizes` that a class of configs, or the class of a part, has not."""
    shared = {field.name for field in fields(PreTrainedConfig)}
    known = [field.name for field in fields(config_class) if field.name not in shared]
    problems = [unknown("key", key, known) for key in sizes if key not in known]
    for key, part in config_class.sub_configs.items():
        problems += [f"{key}: {problem}" for problem in unknown_sizes(part, sizes.get(key, {}))]
    return problems


def known_type(model, weights, wanted, known):
    """The model_type of a network: that of its weights, or what is wanted of one without any.

    Parameters
    ----------
    model : name of the model, for the message
    weights : folder or file, or None
    wanted : the argument architecture, or None
    known : list of those that the model supports; the first one is the default without weights

    Raises
    ------
    DataError if it is none of them, or not what is wanted.
    """
    found, where = wanted or known[0], f"{model}: architecture"
    if weights is not None:
        found, where = settings_beside(weights).get("model_type"), f"{weights}: model_type"
    expected = [wanted] if wanted in known else known
    if found not in expected:
        problem = f"{where}: found {found!r}, expected {' or '.join(expected)}"
        raise DataError("variants", [problem])
    return found


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
