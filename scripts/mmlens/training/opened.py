"""Models as they lie on a disk, ready for use: exported, of a run, or in the format of a hub."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch
import yaml

from ..datasets.vocabulary import train_tokenizer
from ..features.reader import FeatureReader
from ..models import MODELS, build_model, input_spec
from ..models.answers import read_answers
from ..models.exports import build_exported, read_config, read_spec
from ..models.folders import is_export
from ..models.inputs import EncodedSamples
from ..models.released import fresh_weights
from ..table import DataError, read_table, task_of
from ..weights import load_weights
from .loaded import LoadedModel, samples_frame
from .threshold import PLAIN

STATE, EFFECTIVE = "model.safetensors", "config.yaml"


def open_model(folder, architecture=None, arguments=None, device="cpu"):
    """The `LoadedModel` of a folder.

    Parameters
    ----------
    folder : of an exported checkpoint, of a checkpoint of a run
        (results/<run>/checkpoints/<model>/seed<k>), or in the format of save_pretrained
    architecture : name of the registry, for the last kind
    arguments : its arguments, such as {head: similarity}

    Raises
    ------
    DataError if it is none of these, or holds less than the model needs.
    """
    folder = Path(folder)
    if is_export(folder):
        return open_export(folder, device)
    if (folder / EFFECTIVE).is_file():
        return open_run(folder, device)
    if architecture is not None:
        return open_pretrained(folder, architecture, arguments or {}, device)
    problem = (
        f"{folder}: holds neither an exported checkpoint nor one of a run (config.yaml beside "
        "model.safetensors); of a folder in the format of save_pretrained name the architecture, "
        "one of the models of the registry"
    )
    raise DataError("model", [problem])


def open_export(folder, device="cpu"):
    """The `LoadedModel` of an exported checkpoint."""
    return LoadedModel(
        build_exported(folder), read_spec(folder), read_config(folder), device=device
    )


def open_run(folder, device="cpu"):
    """The `LoadedModel` of a checkpoint of a run; paths in its config count from where it ran.

    A model on frozen features reads those of the run, and so, unless others are given to it, the
    images of the run alone.
    """
    folder = Path(folder)
    run = folder.parents[2]
    effective = yaml.safe_load((folder / EFFECTIVE).read_text(encoding="utf-8"))
    name, arguments, max_length = (effective["model"][key] for key in MODEL_KEYS)
    check_explained(name)
    spec = input_spec(name, arguments, run / "data/tokenizer.json", max_length)
    indices = [Path(path) for path in effective["inputs"] if Path(path).name == "index.parquet"]
    features = [FeatureReader(run / "features" / p.parent.name / p.name) for p in indices]
    task = task_of(pd.read_csv(run / "data/samples.csv", nrows=0))
    names = read_table(run / "data/classes.csv")["name"].tolist()
    known = {"features": features[0] if features else None}
    known["answers"] = names if task == "answers" else None
    model = build_model(name, arguments, example(spec, **known))
    load_weights(folder / STATE, model)
    config = {"architecture": name, "task": task, "classes": names, "zero_shot": None}
    reader = known["features"]
    config |= {"threshold": effective["threshold"]}
    config |= {"features": None if reader is None else {"width": reader.width}}
    return LoadedModel(model, spec, config, reader, device)


MODEL_KEYS = ("name", "arguments", "max_length")  # of what a checkpoint says of its model


def open_pretrained(folder, architecture, arguments, device="cpu"):
    """The `LoadedModel` of a folder in the format of save_pretrained, as its weights are."""
    check_explained(architecture)
    if MODELS.attribute(architecture, "frozen", False):
        problem = f"{folder}: {architecture} reads regions; use the checkpoint of a run"
        raise DataError("model", [problem])
    settings = {**arguments, "weights": str(folder)}
    names = read_answers(arguments["answers"]) if arguments.get("answers") else None
    with TemporaryDirectory() as words:
        # Models without words, or without a tokenizer of their own, want that of a run.
        path = Path(words) / "tokenizer.json"
        train_tokenizer(["a"], ["a"]).save(str(path))
        reads = MODELS.attribute(architecture, "modalities", ())
        spec = input_spec(architecture, settings, path if "text" not in reads else None)
    data = example(spec, answers=names)
    model = build_model(architecture, settings, data)
    unread = fresh_weights(model, data.batch(torch.arange(1)))
    if unread:
        problems = [f"{folder}: holds no {part}, which the logits depend on" for part in unread]
        raise DataError("model", problems)
    config = {"architecture": architecture, "task": "binary" if names is None else "answers"}
    config |= {"classes": names or ["0", "1"], "zero_shot": None}
    config |= {"threshold": PLAIN, "features": None}
    return LoadedModel(model, spec, config, device=device)


def example(spec, features=None, answers=None):
    """`EncodedSamples` of one sample, by which a model is built; without features it shows nothing.

    features : FeatureReader; answers : names of all answers
    """
    frame = samples_frame([""], ["a"]).assign(answers="{}")
    frame = frame if features is None else frame.iloc[:0]
    return EncodedSamples(frame, spec, features, answers)


def check_explained(architecture):
    """DataError about a model that cannot be explained."""
    MODELS.check(architecture)
    if not MODELS.attribute(architecture, "explained", True):
        problem = f"{architecture} has no tokens behind the contract of the other models"
        raise DataError("model", [f"{problem}, and is not explained; docs/models.md"])
