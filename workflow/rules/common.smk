# Helpers of all rules; no rules here.
import os
import sys
from pathlib import Path
from types import SimpleNamespace

from snakemake.exceptions import WorkflowError

# Relative, so that nothing reruns when a checkout with its results is moved.
BASE = Path(os.path.relpath(workflow.basedir))
sys.path.append(str(Path(workflow.basedir) / "scripts"))

from mmlens.config import (
    ConfigError,
    complete_config,
    has_stem,
    is_frozen,
    modalities_read,
    model_attribute,
    needs_stem,
    read_schema,
    task_of,
)
from mmlens.config_weights import used_weights, weights_path
from mmlens.datasets import DATASETS, DOWNLOADS, GENERATORS
from mmlens.explanation import METHODS
from mmlens.features import EXTRACTORS
from mmlens.models import MODELS
from mmlens.perturbation import OPERATORS


def checked(config):
    """The configuration with its defaults; all its mistakes in one message."""
    schema = read_schema(BASE / "workflow/schemas/config.schema.yaml")
    try:
        return complete_config(config, schema)
    except ConfigError as error:
        raise WorkflowError(str(error)) from None


def of_run(pattern, **wildcards):
    """Paths of this run: `pattern` expanded over all models and seeds that it names."""
    values = {"run": config["run"], "model": config["models"], "seed": config["seeds"]}
    values |= wildcards
    return expand(pattern, **{name: values[name] for name in values if f"{{{name}}}" in pattern})


def case_of(wildcards):
    """The entry of section cases of a case, by its name."""
    return ordered(next(case for case in config["cases"] if case["name"] == wildcards.case))


def case_image(wildcards):
    """Image file of a case that is no sample of the run."""
    return [image for key, image in case_of(wildcards).items() if key == "image"]


def of_case(function):
    """A function of the wildcards of a model, as one of those of a case: of the case's model."""

    def of_model(wildcards):
        return function(SimpleNamespace(run=wildcards.run, model=case_of(wildcards)["model"]))

    return of_model


def first_checkpoint(wildcards):
    """Folder of a model's checkpoint of the first seed, which cases are explained by."""
    model, seed = wildcards.model, config["seeds"][0]
    return f"results/{wildcards.run}/checkpoints/{model}/seed{seed}"


def trained_models():
    """Models of the run that it trains."""
    return [model for model in config["models"] if config["variants"][model]["train"]]


def used_models():
    """Models of the run that are used as their weights are."""
    return [model for model in config["models"] if not config["variants"][model]["train"]]


def explained_models():
    """Models of the run whose decisions are explained.

    None where images are classified by names: what is to be explained there is no single logit.
    """
    if task_of(config) == "classes":
        return []
    return [m for m in config["models"] if model_attribute(config, m, "explained", True)]


def of_explained(*patterns):
    """`of_run` of what only models whose decisions are explained have."""
    models = explained_models()
    paths = []
    for pattern in patterns if models else ():
        paths += of_run(pattern, **({"model": models} if "{model}" in pattern else {}))
    return paths


def sanity_settings():
    """Section sanity with the names of its methods; without draws of a random order to check."""
    settings = {key: config["sanity"][key] for key in config["sanity"] if key != "enabled"}
    methods = config["methods"] if settings["methods"] is None else settings["methods"]
    return ordered({**settings, "methods": [m for m in methods if m != "random"]})


def sanity_figures():
    """Figures of the check that has some."""
    drawn = "randomisation" in config["sanity"]["checks"]
    return of_explained("results/{run}/figures/sanity/{model}.svg") if drawn else []


def if_enabled(section, files):
    """Files of a section of the config, where all and the report are to have them."""
    return files if config[section]["enabled"] else []


def shard_names():
    """Names of what the shards of a model and seed write: one, or a folder of several."""
    if SHARDS == 1:
        return ["seed{seed}"]
    return [f"seed{{seed}}/{shard}of{SHARDS}" for shard in range(SHARDS)]


def shard_files(kind):
    """What all shards of a model and seed write, of one kind."""
    return [f"results/{{run}}/{kind}/{{model}}/{name}.parquet" for name in shard_names()]


def one_of(names):
    """Regular expression of these names; without any, one that matches nothing."""
    return "|".join(names) or "(?!)"


def of_models(pattern):
    """`of_run` of what only a run with models has."""
    return of_run(pattern) if config["models"] else []


def tracking_files():
    """What says that a tracked run is logged; nothing of a run that is not tracked."""
    return of_models("results/{run}/tracking/run.json") if config["tracking"]["mlflow"] else []


def untracked_config():
    """The config without where the run is logged, which changes nothing that it computes."""
    return ordered({key: config[key] for key in config if key != "tracking"})


def section(name):
    """A section of the config as plain values with sorted keys, for params."""
    return ordered(config[name])


def ordered(value):
    """`value` with the keys of all its dicts sorted, since their order would trigger reruns."""
    if isinstance(value, dict):
        return {key: ordered(value[key]) for key in sorted(value)}
    return value


def model_samples(wildcards):
    """Samples table that a model reads: without captions if it wants none."""
    plain = not config["variants"][wildcards.model]["captions"]
    return f"results/{{run}}/{SAMPLED if plain else 'data'}/samples.csv"


def model_settings(wildcards):
    """How a model is built: its name in the registry, keyword arguments and text length."""
    variant = config["variants"][wildcards.model]
    arguments = {**config["model"], **variant["arguments"]}
    if variant["weights"] is not None:
        arguments["weights"] = weights_path(config, variant["weights"])
    if "tokenizer" in arguments:
        arguments["tokenizer"] = weights_path(config, arguments["tokenizer"])
    return ordered(
        {
            "name": variant["model"],
            "arguments": arguments,
            "max_length": variant["max_length"],
        }
    )


def weights_files(*values):
    """Files to wait for, and whose change counts, where weights are given as these values.

    Of what is downloaded that is the report, which holds the hashes of all files.
    """
    files = []
    for value in values:
        if value in config["weights"] and "path" not in config["weights"][value]:
            files.append(f"resources/weights/{value}/weights.json")
            continue
        path = Path(weights_path(config, value))
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        files += [str(file) for file in inside if file.is_file() and file.name[0] != "."]
    return files


def model_weights(wildcards):
    """What a model starts from, beside the stem: weights, and a tokenizer of their own."""
    variant = config["variants"][wildcards.model]
    values = (variant["weights"], variant["arguments"].get("tokenizer"))
    return weights_files(*(value for value in values if value is not None))


def fetched_weights():
    """Names of the entries of section weights that this run downloads."""
    entries = config["weights"]
    names = dict.fromkeys(used_weights(config).values())
    return [name for name in names if name in entries and "path" not in entries[name]]


def weights_source(wildcards):
    """An entry of section weights; what is known of a file, its own keys above what is published."""
    from mmlens.datasets.versions import known_file  # which imports what downloads need

    entry = config["weights"][wildcards.weights]
    known = known_file("weights", entry["url"]) if "url" in entry else {}
    return ordered({**{key: value for key, value in known.items() if value}, **entry})


def training_settings(wildcards):
    """Section training as it holds for one model."""
    return ordered(config["training_of"].get(wildcards.model, config["training"]))


def training_processes(wildcards):
    """Processes that train one model together, each on a core or a GPU of its own."""
    return training_settings(wildcards)["processes"]


def is_generated():
    """Whether the raw files of this run's data set are made in the run."""
    return config["dataset"]["kind"] in GENERATORS.names()


def is_downloaded():
    """Whether the raw files of this run's data set are downloaded: nobody says where they are."""
    dataset = config["dataset"]
    return "root" not in dataset and dataset["kind"] in DOWNLOADS.names()


def download_settings(wildcards):
    """Section dataset, with the folder that its files are downloaded to."""
    return ordered(
        {**config["dataset"], "root": f"resources/downloads/{config['dataset']['kind']}"}
    )


def dataset_settings(wildcards):
    """Section dataset, with the folder where its files are, without where they come from."""
    settings = download_settings(wildcards) if is_downloaded() else dict(config["dataset"])
    if is_generated():
        settings["root"] = f"results/{wildcards.run}/data/generated"
    from_where = ("accept_licence", "sources")
    return ordered({key: settings[key] for key in settings if key not in from_where})


def names_of(value):
    """The names in a setting: one, or {key: name}."""
    return list(value.values()) if isinstance(value, dict) else [value]


def dataset_files(wildcards):
    """Files that the samples table is made from, as far as the config names them."""
    settings = dataset_settings(wildcards)
    root = Path(settings["root"])
    if is_generated():
        return [str(root)]
    paths = [root / name for key in NAMED_FILES for name in names_of(settings.get(key, {}))]
    # What is downloaded lies there or not; its list is there whenever the files are.
    downloads = [f"results/{wildcards.run}/data/downloads.csv"] if is_downloaded() else []
    paths = [] if downloads else paths
    paths += [Path(settings["groups"]["table"])] if "groups" in settings else []
    paths += [BASE / "resources/vqa/answers.csv"] if settings["kind"] == "vqa" else []
    # A missing file is reported by the reader, with its key and remedy, not by Snakemake.
    return downloads + [str(path) for path in paths if path.is_file()]


def extractor_settings(wildcards):
    """Arguments of one extractor."""
    settings = dict(config["features"]["settings"].get(wildcards.extractor, {}))
    if settings.get("weights") is not None:
        settings["weights"] = weights_path(config, settings["weights"])
    if EXTRACTORS.attribute(wildcards.extractor, "stem", False):
        settings |= {"weights": stem_weights(wildcards)[0], "size": config["model"]["image_size"]}
    return ordered(settings | extractor_tables(wildcards))


def extractor_tables(wildcards):
    """Tables of the run that an extractor reads, by its arguments' names."""
    wanted = EXTRACTORS.attribute(wildcards.extractor, "truth", False)
    tables = {"samples": "samples.csv", "truth": "truth.parquet"} if wanted else {}
    return {key: f"results/{wildcards.run}/data/{name}" for key, name in tables.items()}


def extractor_weights(wildcards):
    """Weights of an extractor: those that this run makes, or what its settings name."""
    if EXTRACTORS.attribute(wildcards.extractor, "stem", False):
        return stem_weights(wildcards)
    value = config["features"]["settings"].get(wildcards.extractor, {}).get("weights")
    # Otherwise it is a name of the hub, which the extractor asks itself.
    is_known = value is not None and (value in config["weights"] or Path(value).exists())
    return weights_files(value) if is_known else []


def cache_settings(wildcards):
    """Section features without what does not concern the cache."""
    names = ("batch_size", "cache", "dtype", "keep_decoded", "shard")
    return {name: config["features"][name] for name in names}


def frozen_models():
    """{model: extractor} of the run's models on frozen features."""
    features = config["features"]
    frozen = [model for model in config["models"] if is_frozen(config, model)]
    return {model: features["of"].get(model, features["extractors"][0]) for model in frozen}


def model_features(wildcards):
    """Index of the cached features that a model reads, if it is one on frozen features.

    And their facts: the index alone says which images they are of, not how they were computed.
    """
    extractor = frozen_models().get(wildcards.model)
    files = ("index.parquet", "facts.json") if extractor else ()
    return [f"results/{wildcards.run}/features/{extractor}/{name}" for name in files]


def stem_weights(wildcards):
    """Weights of the pretrained stem, where the run has one."""
    path = f"results/{wildcards.run}/features/stem/stem.safetensors"
    return [path] if needs_stem(config) else []


def model_stem(wildcards):
    """Weights of the pretrained stem for a model that starts from it."""
    return stem_weights(wildcards) if has_stem(config, wildcards.model) else []


def stem_models():
    """Models of the run that start with a convolutional stem, or read its frozen features."""
    frozen = frozen_models()
    reading = [m for m in frozen if EXTRACTORS.attribute(frozen[m], "stem", False)]
    return [m for m in config["models"] if has_stem(config, m) or m in reading]


def stem_facts(wildcards):
    """Facts about the pretraining of the stem, where the run has one."""
    return [path.replace(".safetensors", ".json") for path in stem_weights(wildcards)]


def benchmark_files(wildcards):
    """Benchmark files of all jobs before the report; measure_cost and write_report have none."""
    single = ["build_samples", "audit_dataset", "evaluate_models"]
    single += [f"draw_{name}" for name in OVERVIEWS]
    if is_generated():
        single.append("generate_dataset")
    if is_downloaded():
        single.append("fetch_dataset")
    if needs_stem(config):
        single.append("pretrain_stem")
    if config["captions"]["enabled"]:
        single.append("caption_images")
    single += [f"extract_features/{name}" for name in config["features"]["extractors"]]
    if explained_models():
        single.append("tabulate_explanations")
        single += if_enabled("sanity", ["tabulate_sanity"])
        single += if_enabled("diagnostics", ["tabulate_diagnostics"])
    names = {name: config["models"] for name in single}
    per_model = [f"explain_model/{{model}}/{part}" for part in shard_names()]
    per_model += ["join_explanations/{model}/seed{seed}"] if SHARDS > 1 else []
    per_model += [f"draw_{kind}/{{model}}" for kind in ("attributions", "perturbation_curves")]
    checks = ["check_explanations/{model}/seed{seed}"]
    checks += ["draw_sanity/{model}"] if sanity_figures() else []
    per_model += if_enabled("sanity", checks)
    diagnostics = ["diagnose_model/{model}/seed{seed}", "draw_diagnostics/{model}"]
    per_model += if_enabled("diagnostics", diagnostics)
    names |= dict.fromkeys(per_model, explained_models())
    names |= {"train_model/{model}/seed{seed}": trained_models()}
    names |= {"predict_model/{model}/seed{seed}": used_models()}
    return [
        path
        for name, models in names.items()
        for path in of_run(f"results/{{run}}/benchmarks/{name}.tsv", model=models)
    ]


def name_reports():
    """Let `snakemake --report summary` work: a report path without a suffix becomes .html.

    Snakemake accepts only names that end in .html or .zip and offers no setting for it.
    """
    from snakemake.report.html_reporter import Reporter

    check = Reporter.__post_init__

    def with_suffix(self):
        if self.settings.path is not None and not self.settings.path.suffix:
            self.settings.path = self.settings.path.with_suffix(".html")
        check(self)

    Reporter.__post_init__ = with_suffix


# Keys of section dataset that name files below its root.
NAMED_FILES = ("table", "files", "instances", "fine_grained", "questions", "annotations")
NAMED_FILES += ("lxmert", "answers", "train_annotations")

# What the target diagnose makes; of `of_explained`.
DIAGNOSED_TABLES = tuple(
    f"results/{{run}}/tables/{name}.csv"
    for name in ("attention_entropy", "cross_modal_attention", "logit_lens", "decision_depth")
)
DIAGNOSED_FIGURES = tuple(
    f"results/{{run}}/figures/{kind}/{{model}}.svg"
    for kind in ("attention_entropy", "cross_modal_attention", "logit_lens", "mean_attention")
)

config.update(checked(config))
name_reports()
SHARDS = config["explain"]["shards"]
# The part of a path that names a shard, with its wildcard; of one shard there is none.
SHARD = "seed{seed}" if SHARDS == 1 else f"seed{{seed}}/{{shard}}of{SHARDS}"
# Folders of the samples table before and after captions are joined to its texts; every later
# stage reads data/, so with captions the plain table lies elsewhere, and without them nothing
# asks for the other.
SAMPLED, CAPTIONED = (
    ("data/plain", "data") if config["captions"]["enabled"] else ("data", "data/captioned")
)
