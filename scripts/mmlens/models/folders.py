"""What lies in a folder of weights, beside the tensors."""

import json
from pathlib import Path

from ..table import DataError

SETTINGS = "config.json"
# The second one names the files that the tensors are spread over.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
EXPORTED = "mmlens_version"  # a key of the config.json of an exported checkpoint


def weights_file(weights):
    """Path of the file of weights, which may be a folder of save_pretrained; DataError if none."""
    path = Path(weights)
    if not path.is_dir():
        return path  # `read_content` says if there is none
    for name in WEIGHTS:
        if (path / name).is_file():
            return path / name
    raise DataError("weights", [f"{path}: holds no {' or '.join(WEIGHTS)}; download it again"])


def folder_of(weights):
    """The folder that weights, a folder or a file, lie in."""
    return Path(weights) if Path(weights).is_dir() else Path(weights).parent


def read_settings(weights):
    """Content of the config.json that lies beside weights; {} if there is none."""
    path = folder_of(weights) / SETTINGS
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError("weights", [f"{path}: {error}; expected JSON"]) from None


def is_export(weights):
    """Whether weights, a folder or a file, are those of an exported checkpoint of this project."""
    return EXPORTED in read_settings(weights)


def settings_beside(weights):
    """Settings of the network that lie beside weights; {} if there are none."""
    settings = read_settings(weights)
    # An exported checkpoint holds the settings of what its model started from.
    return settings["network"] or {} if EXPORTED in settings else settings
