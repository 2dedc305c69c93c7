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
    task_of,
)
from mmlens.config_schema import read_schema
from mmlens.config_weights import used_weights, weights_path
from mmlens.datasets import DATASETS, DOWNLOADS, GENERATORS
from mmlens.explanation import METHODS
from mmlens.features import EXTRACTORS
from mmlens.models import MODELS
from mmlens.perturbation import OPERATORS
from mmlens.robustness import CORRUPTIONS


def checked(config):
    """The configuration with its defaults; all its mistakes in one message."""
    schema = read_schema(BASE / "workflow/schemas/config.schema.yaml")
    try:
        return complete_config(config, schema)
    except ConfigError as error:
        raise WorkflowError(str(error)) from None


def of_run(pattern, **wildcards):
    """Paths of this run: `pattern`, or several, over all models and seeds that they name."""
    values = {"run": config["run"], "model": config["models"], "seed": config["seeds"]}
    values |= wildcards
    patterns = [pattern] if isinstance(pattern, str) else pattern
    return [
        path
        for pattern in patterns
        for path in expand(
            pattern, **{name: values[name] for name in values if f"{{{name}}}" in pattern}
        )
    ]


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


def diagnosed_models():
    """Models of the run whose attention is looked at; of classes that is all there is to see."""
    return [m for m in config["models"] if model_attribute(config, m, "explained", True)]


def of_diagnosed(*patterns):
    """`of_run` of what only models have that can be looked into."""
    return of_some(diagnosed_models(), patterns, config["seeds"])


def of_explained(*patterns):
    """`of_run` of what only models whose decisions are explained have."""
    return of_some(explained_models(), patterns, EXPLAINED_SEEDS)


def of_some(models, patterns, seeds):
    """`of_run` of what only these models and seeds have."""
    paths = []
    for pattern in patterns if models else ():
        named = {"model": models} if "{model}" in pattern else {}
        paths += of_run(pattern, seed=seeds, **named)
    return paths


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


def of_models(patterns):
    """`of_run` of what only a run with models has."""
    return of_run(patterns) if config["models"] else []


def tracking_files():
    """What says that a tracked run is logged; nothing of a run that is not tracked."""
    return of_models("results/{run}/tracking/run.json") if config["tracking"]["mlflow"] else []


def untracked_config():
    """The config without where the run is logged, which changes nothing that it computes."""
    return ordered({key: config[key] for key in config if key != "tracking"})


def section(name):
    """A section of the config as plain values with sorted keys, for params."""
    return ordered(config[name])


def explain_settings():
    """Section explain without the number of seeds, which changes nothing of any one of them."""
    return {key: value for key, value in section("explain").items() if key != "seeds"}


def ordered(value):
    """`value` with the keys of all its dicts sorted, since their order would trigger reruns."""
    if isinstance(value, dict):
        return {key: ordered(value[key]) for key in sorted(value)}
    return value


def benchmark_files(wildcards):
    """Benchmark files of all jobs before the report; measure_cost and write_report have none."""
    single = ["build_samples", "audit_dataset", "evaluate_models", "assess_models"]
    single += ["draw_assessment"] + (["compare_published"] if REPRODUCTION else [])
    single += ["tabulate_zero_shot"] if ZERO_SHOT_TABLES else []
    drawn = ["tabulate_robustness", "draw_robustness"]
    single += if_enabled("robustness", drawn if config["models"] else [])
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
    single += if_enabled("diagnostics", ["tabulate_diagnostics"] if diagnosed_models() else [])
    names = {name: config["models"] for name in single}
    per_model = [f"explain_model/{{model}}/{part}" for part in shard_names()]
    per_model += ["join_explanations/{model}/seed{seed}"] if SHARDS > 1 else []
    per_model += [f"draw_{kind}/{{model}}" for kind in ("attributions", "perturbation_curves")]
    checks = ["check_explanations/{model}/seed{seed}"]
    checks += ["draw_sanity/{model}"] if sanity_figures() else []
    per_model += if_enabled("sanity", checks)
    names |= dict.fromkeys(per_model, explained_models())
    diagnostics = ["diagnose_model/{model}/seed{seed}", "draw_diagnostics/{model}"]
    names |= dict.fromkeys(if_enabled("diagnostics", diagnostics), diagnosed_models())
    ranked = config["models"] if ZERO_SHOT_TABLES else []
    names |= {"rank_pairs/{model}/seed{seed}": ranked}
    robust = if_enabled("robustness", config["models"])
    names |= {"corrupt_model/{model}/seed{seed}": robust}
    names |= {"train_model/{model}/seed{seed}": trained_models()}
    names |= {"predict_model/{model}/seed{seed}": used_models()}
    return [
        path
        for name, models in names.items()
        for path in of_run(
            f"results/{{run}}/benchmarks/{name}.tsv",
            model=models,
            seed=EXPLAINED_SEEDS if name in per_model else config["seeds"],
        )
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


# What the target diagnose makes; of `of_diagnosed`.
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
EXPLAINED_SEEDS = config["seeds"][: config["explain"]["seeds"]]
SHARDS = config["explain"]["shards"]
# The part of a path that names a shard, with its wildcard; of one shard there is none.
SHARD = "seed{seed}" if SHARDS == 1 else f"seed{{seed}}/{{shard}}of{SHARDS}"
# Folders of the samples table before and after captions are joined to its texts; every later
# stage reads data/, so with captions the plain table lies elsewhere, and without them nothing
# asks for the other.
SAMPLED, CAPTIONED = (
    ("data/plain", "data") if config["captions"]["enabled"] else ("data", "data/captioned")
)
