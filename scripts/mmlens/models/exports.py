"""Exported checkpoints: a folder with all that it takes to use a model again.

config.json says what is to be built and what its outputs mean, model.safetensors holds the state
of the whole model, tokenizer.json and preprocessor_config.json are in the formats of tokenizers
and transformers, README.md is the model card.
"""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

from tokenizers import Tokenizer

from .. import __version__
from ..features.base import Geometry
from ..files import atomic, write_json, write_text
from ..table import DataError
from ..weights import load_weights
from . import MODELS
from .folders import EXPORTED, SETTINGS, folder_of, is_export, read_settings, settings_beside
from .inputs import InputSpec

TENSORS = "model.safetensors"
TOKENIZER, WORDS = "tokenizer.json", "tokenizer_config.json"
PROCESSOR = "preprocessor_config.json"
# Arguments that name files outside of the folder: what they held is in it.
PATHS = ("weights", "tokenizer", "answers")
RESAMPLE = {"bilinear": 2, "bicubic": 3}  # of Pillow, as image processors number them


def read_config(weights):
    """Content of config.json of an exported checkpoint; DataError if it is none."""
    config = read_settings(weights)
    if EXPORTED not in config:
        problem = (
            f"{folder_of(weights) / SETTINGS}: no {EXPORTED}; expected the folder of an exported "
            "checkpoint, as in results/<run>/checkpoints/<model>/seed<k>/export"
        )
        raise DataError("weights", [problem])
    return config


def architecture_of(name, arguments):
    """What builds a model again: the keys architecture, arguments and network of config.json.

    name, arguments : as for `build_model`
    """
    weights = arguments.get("weights")
    if weights is not None and is_export(weights):
        config = read_config(weights)
        return {key: config[key] for key in ("architecture", "arguments", "network")}
    return {
        "architecture": name,
        "arguments": {key: value for key, value in arguments.items() if key not in PATHS},
        # Models that started from weights differ from others, even where the sizes are the same.
        "network": None if weights is None else settings_beside(weights),
    }


def text_settings(spec):
    """What config.json says of the texts of an InputSpec."""
    return {
        "vocabulary_size": spec.tokenizer.get_vocab_size(),
        "max_length": spec.max_length,
        "pad_id": spec.pad_id,
        "mask_id": spec.mask_id,
        "fill": spec.fill,
    }


def write_export(folder, weights, spec, config):
    """Write an exported checkpoint, but for its card.

    Parameters
    ----------
    weights : path of the state of the model
    spec : InputSpec
    config : dict for config.json: those of `architecture_of` and `text_settings`, task, classes,
        zero_shot, threshold, features, and whatever else is known
    """
    folder = Path(folder)
    with atomic(folder / TENSORS) as temporary:
        shutil.copyfile(weights, temporary)
    write_json(folder / SETTINGS, {EXPORTED: __version__, **config}, indent=1)
    write_text(folder / TOKENIZER, spec.tokenizer.to_str(pretty=True))
    write_json(folder / WORDS, tokenizer_settings(spec), indent=1)
    write_json(folder / PROCESSOR, processor_settings(spec), indent=1)


def tokenizer_settings(spec):
    """Content of tokenizer_config.json, by which transformers reads the tokenizer."""
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": spec.max_length}
    for key, number in (("pad_token", spec.pad_id), ("mask_token", spec.mask_id)):
        if number is not None:
            settings[key] = spec.tokenizer.id_to_token(number)
    return settings


def processor_settings(spec):
    """Content of preprocessor_config.json; its geometry is None for a model without pixels."""
    own = {"geometry": None if spec.geometry is None else asdict(spec.geometry)}
    own |= {"image_mean": list(spec.mean), "image_std": list(spec.std)}
    if spec.geometry is None:
        return own
    sides = {"height": spec.geometry.height, "width": spec.geometry.width}
    shortest = spec.geometry.shortest_edge
    crop = {} if shortest is None else {"crop_size": sides}
    return {
        **own,
        **crop,
        "image_processor_type": "ViTImageProcessor" if shortest is None else "CLIPImageProcessor",
        "size": sides if shortest is None else {"shortest_edge": shortest},
        "do_center_crop": shortest is not None,
        "resample": RESAMPLE[spec.geometry.interpolation],
        **dict.fromkeys(("do_resize", "do_rescale", "do_normalize", "do_convert_rgb"), True),
        "rescale_factor": 1 / 255,
    }


def read_spec(weights, max_length=None):
    """`InputSpec` of an exported checkpoint.

    max_length : most text tokens, if fewer than it was made for
    """
    folder, config = folder_of(weights), read_config(weights)
    if config["fill"] and max_length not in (None, config["max_length"]):
        problem = f"max_length: found {max_length}, but {weights} reads texts filled to "
        raise DataError("variants", [f"{problem}{config['max_length']} tokens; remove it"])
    processor = json.loads((folder / PROCESSOR).read_text(encoding="utf-8"))
    geometry = processor["geometry"]
    return InputSpec(
        Tokenizer.from_file(str(folder / TOKENIZER)),
        min(max_length or config["max_length"], config["max_length"]),
        config["pad_id"],
        config["mask_id"],
        None if geometry is None else Geometry(**geometry),
        tuple(processor["image_mean"]),
        tuple(processor["image_std"]),
        config["fill"],
    )


def build_exported(weights, features=None):
    """The model of an exported checkpoint, with its weights.

    features : FeatureReader; None for a model that reads none, or for one whose features are given
        later: then those of config.json tell their width and grid
    """
    folder, config = folder_of(weights), read_config(weights)
    known = config["features"]
    if features is None and known:
        grid = tuple(known["grid"]) if known["grid"] else None
        features = SimpleNamespace(**{**known, "grid": grid})
    settings = dict(config["arguments"])
    if config["network"] is not None:
        settings["weights"] = str(folder)
    if config["task"] == "answers":
        settings["outputs"] = len(config["classes"])
    model = MODELS.get(config["architecture"])(
        vocabulary_size=config["vocabulary_size"],
        max_length=config["max_length"],
        features=features,
        **settings,
    )
    load_weights(folder / TENSORS, model)
    return model


def build_for(name, weights, data):
    """`build_exported` for the samples of a run.

    Raises
    ------
    DataError naming all in which the run differs from what the model was made for.
    """
    config = read_config(weights)
    problems = []
    if config["architecture"] != name:
        problems.append(f"{weights}: holds {config['architecture']}, the variant's model is {name}")
    if (config["task"] == "answers") != (data.answers is not None):
        problems.append(f"{weights}: was made for {config['task']}, the run has other labels")
    elif data.answers is not None and config["classes"] != data.answers:
        problems.append(f"{weights}: its {len(config['classes'])} answers are not the run's")
    wanted = config["features"]
    if wanted and data.features is not None:
        found, expected = computed_by(data.features.settings), computed_by(wanted["settings"])
        if found != expected:
            problems.append(
                f"{weights}: reads features of {expected}, the run's are of {found}; set "
                "features.of and features.settings"
            )
    if problems:
        raise DataError("weights", problems)
    return build_exported(weights, data.features)


def computed_by(settings):
    """Settings of an extractor without those that move its features by rounding alone."""
    return {key: value for key, value in settings.items() if key not in ("backend", "dtype")}
