"""The configuration: defaults filled in from the schema, every mistake reported at once."""

import copy
import re
from pathlib import Path

import yaml

from .config_cases import check_cases, complete_cases
from .config_schema import describe, errors_of, fill_defaults
from .config_weights import check_use, check_weights
from .datasets import DATASETS, GENERATORS
from .explanation import METHODS
from .features import EXTRACTORS
from .models import MODELS
from .perturbation import OPERATORS
from .registry import unknown
from .robustness import CORRUPTIONS
from .table import DataError, read_table

# Files with keys of section training, by the names of the recipes they hold.
PRESETS = Path(__file__).resolve().parents[2] / "config/presets"
PUBLISHED = Path(__file__).resolve().parents[2] / "resources/published_results.csv"
# Files with a prompt per line, by the names of the sets.
PROMPTS = Path(__file__).resolve().parents[2] / "resources/prompts"


class ConfigError(DataError):
    """Everything that is wrong with a configuration, one line per problem."""


def complete_config(config, schema):
    """A checked copy of `config` with all defaults filled in.

    Parameters
    ----------
    config : dict, as merged by Snakemake from config files and the command line
    schema : dict, the JSON Schema

    Raises
    ------
    ConfigError naming for every problem the key, what was found and what is expected.
    """
    config = fill_defaults(with_on(copy.deepcopy(config)), schema)
    problems = [text for error in errors_of(config, schema) for text in describe(error)]
    if not problems:
        problems = check_names(config) + check_training_of(config, schema) + check_values(config)
    if problems:
        raise ConfigError("the configuration cannot be used", problems)
    config["variants"] = complete_variants(config, schema)
    # Files laid over each other may name models that this run does not have.
    in_run = set(config["models"])
    config["training_of"] = {
        model: training_section(config["training"], change, schema)
        for model, change in config["training_of"].items()
        if model in in_run
    }
    layers = config["explain"]["grad_cam_layers"]
    config["explain"]["grad_cam_layers"] = {m: layers[m] for m in layers if m in in_run}
    if "random" not in config["methods"]:
        config["methods"] = ["random", *config["methods"]]
    config["cases"] = complete_cases(config)
    prompts = config["zero_shot"]["prompts"]
    config["zero_shot"]["prompts"] = read_prompts(prompts) if isinstance(prompts, str) else prompts
    levels = config["robustness"]["corruptions"]
    levels = dict.fromkeys(CORRUPTIONS.names()) if levels is None else levels
    config["robustness"]["corruptions"] = {
        name: own or CORRUPTIONS.attribute(name, "levels") for name, own in levels.items()
    }
    return config


def prompt_sets():
    """Names of the sets of prompts."""
    return sorted(path.stem for path in PROMPTS.glob("*.txt"))


def read_prompts(name):
    """The prompts of a set."""
    lines = (PROMPTS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def with_on(config):
    """`config` with the key `on` of dataset.groups, which YAML 1.1 reads as the boolean true."""
    dataset = config.get("dataset")
    groups = dataset.get("groups") if isinstance(dataset, dict) else None
    if isinstance(groups, dict) and True in groups:
        groups["on"] = groups.pop(True)
    return config


def complete_variants(config, schema):
    """{model of the run: its entry of section variants with all defaults}."""
    part = schema["properties"]["variants"]["additionalProperties"]
    entries = {
        name: {"model": name} | config["variants"].get(name, {}) for name in config["models"]
    }
    return {name: fill_defaults(entry, part) for name, entry in entries.items()}


def check_names(config):
    """Problems with names of data sets, models, methods and extractors."""
    problems = []
    variants = config["variants"]
    for name, variant in variants.items():
        if variant["model"] not in MODELS.names():
            problem = unknown("model", variant["model"], MODELS.names())
            problems.append(f"variants.{name}.model: {problem}")
        if name in MODELS.names() and variant["model"] != name:
            problems.append(
                f"variants.{name}: is the name of another model than its own, "
                f"{variant['model']}; choose a name that the registry does not have"
            )
    known_models = sorted({*MODELS.names(), *variants})
    for name in config["models"]:
        if name not in known_models:
            problems.append(f"models: {unknown('model', name, known_models)}")
    for key, registry, names in (
        ("dataset.kind", DATASETS, [config["dataset"]["kind"]]),
        ("methods", METHODS, config["methods"]),
        ("explain.arguments", METHODS, config["explain"]["arguments"]),
        ("sanity.methods", METHODS, config["sanity"]["methods"] or ()),
        ("perturbation.operators", OPERATORS, config["perturbation"]["operators"]),
        ("perturbation.arguments", OPERATORS, config["perturbation"]["arguments"]),
        ("features.extractors", EXTRACTORS, config["features"]["extractors"]),
        ("features.settings", EXTRACTORS, config["features"]["settings"]),
        ("robustness.corruptions", CORRUPTIONS, config["robustness"]["corruptions"] or ()),
    ):
        for name in names:
            if name not in registry.names():
                problems.append(f"{key}: {unknown(registry.kind, name, registry.names())}")
    for key in ("training_of", "features.of", "explain.grad_cam_layers"):
        section = config
        for part in key.split("."):
            section = section[part]
        for name in section:
            if name not in known_models:
                problems.append(f"{key}: {unknown('model', name, known_models)}")
    return problems


def merged(section, change):
    """A copy of a nested dict with another one laid over it."""
    result = copy.deepcopy(section)
    for key, value in change.items():
        nested = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if nested else copy.deepcopy(value)
    return result


def presets():
    """Names of the presets of section training."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def read_preset(name):
    """Keys of section training that a preset sets."""
    return yaml.safe_load((PRESETS / f"{name}.yaml").read_text(encoding="utf-8"))


def training_section(section, change, schema):
    """Section training as it holds for one model: the run's, the preset's keys, its own keys."""
    own = {key: value for key, value in change.items() if key != "preset"}
    layers = [read_preset(change["preset"]), own] if "preset" in change else [own]
    for layer in layers:
        if "epochs" in layer:  # else the updates of the layer below would count
            section = {**section, "updates": None}
        section = merged(section, layer)
    return fill_defaults(section, schema["properties"]["training"])


def check_training_of(config, schema):
    """Problems with the overrides of single models, checked as sections training."""
    problems = []
    for model, change in config["training_of"].items():
        if change.get("preset", presets()[0]) not in presets():
            problem = unknown("preset", change["preset"], presets())
            problems.append(f"training_of.{model}.preset: {problem}")
            continue
        section = training_section(config["training"], change, schema)
        for error in errors_of(section, schema["properties"]["training"]):
            problems += describe(error, f"training_of.{model}")
    return problems


def check_values(config):
    """Problems that need more than one key to see."""
    problems = check_tracking(config)
    model, dataset = config["model"], config["dataset"]
    if model["width"] % model["heads"]:
        problems.append(
            f"model.width: found {model['width']}, expected a multiple of model.heads "
            f"({model['heads']})"
        )
    if "deletion" not in config["perturbation"]["procedures"]:
        problems.append(
            "perturbation.procedures: found insertion alone, expected deletion too, which it is "
            "computed from and which figures and report show"
        )
    steps = config["perturbation"]["steps"]
    if steps != sorted(steps) or steps[0] != 0 or steps[-1] != 1:
        problems.append(f"perturbation.steps: found {steps}, expected rising shares from 0 to 1")
    explained, seeds = config["explain"]["seeds"], len(config["seeds"])
    if explained is not None and explained > seeds:
        problems.append(
            f"explain.seeds: found {explained}, expected at most {seeds}, the number of seeds"
        )
    if dataset["kind"] not in DATASETS.names():
        return problems
    task = task_of(config)
    known = [model for model in config["models"] if architecture(config, model) in MODELS.names()]
    for model in known if task == "classes" else ():
        if len(model_attribute(config, model, "modalities")) < 2:
            problems.append(
                f"models: {model} reads one modality, but dataset.kind {dataset['kind']} asks how "
                "well the names of classes fit an image; remove it"
            )
    for model in known:
        tasks = model_attribute(config, model, "tasks", (task,))
        if task not in tasks:
            problems.append(
                f"models: {model} is for labels of kind {' or '.join(tasks)}, but those of "
                f"dataset.kind {dataset['kind']} are {task}; remove it"
            )
    has_masks = dataset["kind"] in GENERATORS.names() or dataset.get("instances")
    if needs_stem(config) and task == "binary" and not has_masks:
        problems.append(
            "stem.pretrain: found true, but the data set has no dataset.instances to learn from; "
            "add them or set stem.pretrain: false"
        )
    problems += check_features(config) + check_vqa(dataset) + check_weights(config)
    problems += check_cases(config) + check_evaluation(config)
    return problems + check_arguments(config) + check_use(config)


def check_evaluation(config):
    """Problems with sections zero_shot, robustness and published."""
    problems = []
    prompts = config["zero_shot"]["prompts"]
    if isinstance(prompts, str) and prompts not in prompt_sets():
        problem = unknown("set of prompts", prompts, prompt_sets())
        problems.append(f"zero_shot.prompts: {problem}")
    first = config["zero_shot"]["prerank"]
    contrastive = [
        m
        for m in config["models"]
        if architecture(config, m) in MODELS.names() and model_attribute(config, m, "contrastive")
    ]
    if first is not None and first not in contrastive:
        problems.append(
            f"zero_shot.prerank: found {first}, expected a contrastive model of the run "
            f"({', '.join(contrastive) or 'there is none'})"
        )
    for name, levels in (config["robustness"]["corruptions"] or {}).items():
        if name in CORRUPTIONS.names() and levels:
            schema = {"items": CORRUPTIONS.attribute(name, "level")}
            for error in errors_of(levels, schema):
                problems += describe(error, f"robustness.corruptions.{name}")
    return problems + check_published(config)


def check_published(config):
    """Problems with names of section published, which resources/published_results.csv knows."""
    section, problems = config["published"], []
    if section["dataset"] is None:
        unused = [key for key in ("split", "models") if section[key]]
        return [f"published.{key}: set without published.dataset" for key in unused]
    table = read_table(PUBLISHED)
    known = table[table["dataset"] == section["dataset"]]
    if known.empty:
        names = sorted(set(table["dataset"]))
        return [f"published.dataset: {unknown('data set', section['dataset'], names)}"]
    splits = sorted(set(known["split"]))
    if section["split"] not in splits:
        return [f"published.split: {unknown('split', section['split'], splits)}"]
    names = sorted(set(known.loc[known["split"] == section["split"], "model"]))
    for model, name in section["models"].items():
        if model not in {*config["models"], *config["variants"]}:
            problems.append(f"published.models: {unknown('model', model, config['models'])}")
        if name not in names:
            problems.append(f"published.models.{model}: {unknown('published model', name, names)}")
    return problems


def check_arguments(config):
    """Problems with arguments of methods and operators, whose decorators hold their schemas."""
    problems = []
    for section, registry in (("explain", METHODS), ("perturbation", OPERATORS)):
        for name, arguments in config[section]["arguments"].items():
            if name in registry.names():
                known = registry.attribute(name, "arguments", {})
                schema = {"properties": known, "additionalProperties": False}
                for error in errors_of(arguments, schema):
                    problems += describe(error, f"{section}.arguments.{name}")
                if registry.attribute(name, "of_another", False):
                    problems += check_named(f"{section}.arguments.{name}.method", arguments)
    return problems


def check_named(key, arguments):
    """Problems with the method that the arguments of a method of another one name, if they do."""
    named = arguments.get("method")
    # What is no text is a problem of its schema.
    if not isinstance(named, str) or named in METHODS.names():
        return []
    return [f"{key}: {unknown(METHODS.kind, named, METHODS.names())}"]


def needs_stem(config):
    """Whether a model or an extractor of the run starts from the pretrained stem."""
    known = [m for m in config["models"] if architecture(config, m) in MODELS.names()]
    wanted = any(has_stem(config, model) for model in known)
    named = [name for name in config["features"]["extractors"] if name in EXTRACTORS.names()]
    wanted = wanted or any(EXTRACTORS.attribute(name, "stem", False) for name in named)
    return config["stem"]["pretrain"] and wanted


def has_stem(config, model):
    """Whether a model starts with a stem, and from no other weights."""
    fresh = config["variants"].get(model, {}).get("weights") is None
    return fresh and model_attribute(config, model, "stem", False)


def check_features(config):
    """Problems with the extractors of models on frozen features."""
    features, problems = config["features"], []
    known = [m for m in config["models"] if architecture(config, m) in MODELS.names()]
    frozen = [model for model in known if is_frozen(config, model)]
    if frozen and not features["extractors"]:
        problems.append(f"features.extractors: empty; {', '.join(frozen)} read features of one")
    named = [name for name in features["extractors"] if name in EXTRACTORS.names()]
    for extractor in named if not config["stem"]["pretrain"] else ():
        if EXTRACTORS.attribute(extractor, "stem", False):
            problems.append(
                f"features.extractors: {extractor} needs stem.pretrain: true; found false"
            )
    for model, extractor in features["of"].items():
        if extractor not in features["extractors"]:
            known = ", ".join(features["extractors"])
            problems.append(
                f"features.of.{model}: {extractor!r} is not in features.extractors ({known}); "
                "add it"
            )
    return problems


def check_vqa(dataset):
    """Problems with keys of a data set of kind vqa that exclude or need each other."""
    if dataset["kind"] != "vqa":
        return []
    order = dataset["vocabulary"]
    problems = []
    if order == "train" and "train_annotations" not in dataset:
        problems.append("dataset.train_annotations: missing; vocabulary train is made from it")
    unused = "answers" if order == "train" else "train_annotations"
    if unused in dataset:
        problems.append(f"dataset.{unused}: not used with dataset.vocabulary {order}; remove it")
    return problems


def check_tracking(config):
    """Problems with the address of the tracking store; folders of files are none."""
    uri = config["tracking"]["uri"]
    if re.fullmatch(r"sqlite:///.+|(postgresql|mysql|mssql)(\+\w+)?://.+|https?://.+", uri):
        return []
    return [
        f"tracking.uri: found {uri!r}, expected sqlite:///<file>, postgresql://..., mysql://..., "
        "mssql://..., http://... or https://...; parallel jobs would damage a folder of files"
    ]


def task_of(config):
    """The task of the run's kind of data: binary, classes or answers."""
    return DATASETS.attribute(config["dataset"]["kind"], "task", "binary")


def architecture(config, model):
    """Name in the registry of one of the run's models."""
    return config["variants"].get(model, {"model": model})["model"]


def model_attribute(config, model, key, default=None):
    """A keyword of the decorator of one of the run's models, without importing it."""
    return MODELS.attribute(architecture(config, model), key, default)


def is_frozen(config, model):
    """Whether a model reads cached features instead of pixels."""
    return model_attribute(config, model, "frozen", False)


def modalities_read(config):
    """Modalities that at least one of the run's models reads; all without any.

    Data that is built before there are models for it is to be complete.
    """
    if not config["models"]:
        return ["image", "text"]
    reads = (model_attribute(config, model, "modalities") for model in config["models"])
    return sorted({modality for modalities in reads for modality in modalities})
