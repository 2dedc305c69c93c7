"""What the models of a run start from, and whether they are trained: checks of the config."""

from pathlib import Path

from .models import MODELS
from .models.folders import is_export


def check_weights(config):
    """Problems with section weights, and with the names and paths of what this run starts from."""
    problems = []
    for name, entry in config["weights"].items():
        places = [key for key in ("hub", "url") if key in entry]
        if len(places) > 1:
            problems.append(f"weights.{name}: found hub and url, expected one of them")
        elif not places and "path" not in entry:
            problems.append(f"weights.{name}: found none of hub, url and path, expected one")
        for key, of in (("revision", "hub"), ("tensors", "hub"), ("sha256", "url")):
            if key in entry and of not in entry:
                problems.append(f"weights.{name}.{key}: belongs to {of}, which it lacks; remove it")
    for key, value in used_weights(config).items():
        path = Path(config["weights"].get(value, {}).get("path", value))
        if value in config["weights"] and "path" not in config["weights"][value]:
            continue
        if value in config["weights"] and not path.exists():
            problems.append(f"weights.{value}.path: {path} is no folder or file; correct it")
        elif not path.exists() and not key.startswith("features."):
            # An extractor may also be given a name of the hub.
            names = ", ".join(config["weights"]) or "none"
            problems.append(
                f"{key}: {value!r} is no entry of section weights ({names}) and no folder or file; "
                "add it or correct it"
            )
    return problems


def check_use(config):
    """Problems with models that are used as they are, and with what is predicted."""
    problems = []
    for model in config["models"]:
        variant = config["variants"].get(model, {})
        weights, name = variant.get("weights"), variant.get("model", model)
        known = name in MODELS.names()
        if weights is None and known and MODELS.attribute(name, "pretrained"):
            problems.append(
                f"variants.{model}.weights: missing, but {name} is made to start from published "
                "ones; name them"
            )
        if known and variant.get("train", True) and not MODELS.attribute(name, "trained", True):
            problems.append(
                f"variants.{model}.train: found true, but {name} is only used as its weights are; "
                "set train: false"
            )
        if weights is None and not variant.get("train", True):
            problems.append(
                f"variants.{model}.train: found false, but it has no weights to be used as they "
                "are; set weights, or train: true"
            )
        if weights is not None and variant.get("arguments"):
            path = weights_path(config, weights)
            if is_export(path):
                problems.append(
                    f"variants.{model}.arguments: not used with the exported checkpoint {path}, "
                    "which holds its own; remove them"
                )
    split, splits = config["explain"]["split"], config["predict"]["splits"]
    if config["models"] and split not in splits:
        problems.append(
            f"predict.splits: found {', '.join(splits)}, expected also explain.split ({split})"
        )
    return problems


def used_weights(config):
    """{key of the config: what the weights there are} of the models and extractors of the run."""
    used = {}
    for model in config["models"]:
        variant = config["variants"].get(model, {})
        of_model = {"weights": variant.get("weights")}
        of_model["arguments.tokenizer"] = variant.get("arguments", {}).get("tokenizer")
        used |= {f"variants.{model}.{key}": value for key, value in of_model.items()}
    settings = config["features"]["settings"]
    for extractor in config["features"]["extractors"]:
        used[f"features.settings.{extractor}.weights"] = settings.get(extractor, {}).get("weights")
    return {key: value for key, value in used.items() if value is not None}


def weights_path(config, value):
    """The folder or file of weights, given as the name of an entry of section weights or itself."""
    entry = config["weights"].get(value)
    if entry is None or "path" in entry:
        return value if entry is None else entry["path"]
    # A repository is a folder of files that belong together, else there is but one file.
    return f"resources/weights/{value}" + ("" if "hub" in entry else "/model.safetensors")
