"""The configuration: what is valid, what is filled in, and one exact line per mistake."""

import copy
from pathlib import Path

import pytest
import yaml
from conftest import DEMO, ROOT
from snakemake.utils import update_config

from mmlens.config import ConfigError, complete_config, modalities_read
from mmlens.config_schema import read_schema
from mmlens.datasets.versions import read_versions
from mmlens.models import MODELS

SCHEMA = read_schema(ROOT / "workflow/schemas/config.schema.yaml")
TABLE = {"kind": "csv", "root": "data", "table": "table.csv"}
JSONL = {
    "kind": "hateful_memes",
    "root": "data",
    "files": {split: f"{split}.jsonl" for split in ("train", "val", "test")},
}
# Keys that only repeat a key which stands above.
UNDESCRIBED = {"kind"}


def read_yaml(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def config_with(changes=None, **sections):
    """config/test/demo.yaml laid over config/config.yaml as Snakemake does, with changes.

    changes : nested, laid over as by --config; sections : replaced as a whole
    """
    config = read_yaml(ROOT / "config/config.yaml")
    for layer in (read_yaml(DEMO), changes or {}):
        update_config(config, copy.deepcopy(layer))
    return {**config, **sections}


def problems_of(config):
    with pytest.raises(ConfigError) as caught:
        complete_config(config, SCHEMA)
    assert str(caught.value).startswith("the configuration cannot be used: ")
    return caught.value.problems


CONFIGS = [p for folder in ("", "test") for p in sorted((ROOT / "config" / folder).glob("*.yaml"))]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name} {path.stem}")
def test_configs_of_the_repository_are_valid(path, tmp_path, monkeypatch):
    """Alone, or, for a twin, over the configuration that it is the twin of."""
    config = read_yaml(ROOT / "config/config.yaml")
    real = ROOT / "config" / path.name
    for layer in dict.fromkeys([real, path] if real.is_file() else [path]):
        update_config(config, read_yaml(layer))
    monkeypatch.chdir(tmp_path)
    for entry in config.get("weights", {}).values():
        if "path" in entry:  # which the run makes for itself
            Path(entry["path"]).mkdir(parents=True, exist_ok=True)
    complete_config(config, SCHEMA)


def test_defaults_are_filled_and_the_argument_is_left_alone():
    config = config_with()
    before = copy.deepcopy(config)
    full = complete_config(config, SCHEMA)
    assert config == before
    assert full["dataset"] == {
        "kind": "generated", "quads": {"train": 150, "val": 20, "test": 40},
        "seed": 0, "size": 96, "leak": "none", "bias": None,
    }  # fmt: skip
    assert full["model"] == {"width": 32, "heads": 2, "image_size": 96}
    assert full["training"]["masked_words"] == {"weight": 1.0, "probability": 0.4, "label": 0}
    own = full["training_of"]["vilt_scratch"]
    assert (own["epochs"], own["lr"]) == (4, 0.00035)
    assert own["masked_words"] == {**full["training"]["masked_words"], "weight": 3.0}
    assert own["warmup"] == full["training"]["warmup"]
    assert full["perturbation"]["steps"] == [0, 0.25, 0.5, 0.75, 0.8, 0.85, 0.9, 0.95, 1]
    assert full["sample"] == {}
    shortest = {"run": "r", "dataset": {"kind": "generated"}, "models": ["text_only"]}
    full = complete_config({**shortest, "methods": ["rollout"]}, SCHEMA)
    assert set(full) == set(SCHEMA["properties"])
    assert full["methods"] == ["random", "rollout"]
    assert full["dataset"]["quads"] == {"train": 2500, "val": 500, "test": 500}
    assert complete_config(full, SCHEMA) == full


def test_completed_defaults_are_copies():
    first = complete_config(config_with(), SCHEMA)
    first["perturbation"]["steps"].append("changed")
    assert "changed" not in complete_config(config_with(), SCHEMA)["perturbation"]["steps"]


def properties_of(schema, prefix=""):
    """(dotted key, schema) of every property at every depth."""
    for key, part in schema.get("properties", {}).items():
        yield f"{prefix}{key}", part
        yield from properties_of(part, f"{prefix}{key}.")
    for branch in schema.get("allOf", []):
        yield from properties_of(branch["then"], prefix)
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict):
        yield from properties_of(extra, f"{prefix}*.")


def test_every_key_has_a_description_and_no_object_takes_unknown_keys():
    found = list(properties_of(SCHEMA))
    assert len(found) > 50
    for key, part in found:
        if key.split(".")[-1] in UNDESCRIBED and not part:
            continue
        assert part.get("description", "").endswith("."), key
        if part.get("type") == "object" and key != "dataset":
            assert "additionalProperties" in part, key


@pytest.mark.parametrize(
    ("changes", "found", "expected"),
    [
        ({"modells": 1}, "unknown key 'modells'", "did you mean models or model? known are run,"),
        ({"training": {"colour": 1}}, "unknown key 'training.colour'", "known are objective,"),
        ({"dataset": {"root": "x"}}, "unknown key 'dataset.root'", "quads"),
        ({"run": "a b"}, "run: found \"a b\" (str)", "letters, digits, _ and -"),
        ({"run": 5}, "run: found 5 (int)", "a value of type string"),
        ({"device": "gpu"}, "device: found \"gpu\" (str)", "one of \"auto\", \"cpu\", \"cuda\""),
        ({"seeds": []}, "seeds: found []", "at least 1 entries"),
        ({"seeds": [0, 0]}, "seeds: found [0, 0]", "no entry twice"),
        ({"seeds": [True]}, "seeds.0: found true (bool)", "a value of type integer"),
        ({"seeds": "0"}, "seeds: found \"0\" (str)", "a value of type array"),
        ({"models": ["vilt_scratch", 3]}, "models.1: found 3 (int)", "a value of type string"),
        ({"training": None}, "training: found null (NoneType)", "a value of type object"),
        ({"training": {"epochs": "5"}}, "training.epochs: found \"5\" (str)", "type integer"),
        ({"training": {"epochs": True}}, "training.epochs: found true (bool)", "type integer"),
        ({"training": {"epochs": 0}}, "training.epochs: found 0 (int)", "at least 1"),
        ({"training": {"lr": 0}}, "training.lr: found 0 (int)", "more than 0"),
        ({"training": {"warmup": -1}}, "training.warmup: found -1 (int)", "at least 0"),
        ({"training": {"patience": "x"}}, "training.patience: found \"x\"", "integer or null"),
        ({"training": {"loss": {"smoothing": 1}}}, "training.loss.smoothing: found 1",
         "less than 1"),
        ({"model": {"image_size": 100}}, "model.image_size: found 100", "a multiple of 16"),
        ({"stem": {"pretrain": 1}}, "stem.pretrain: found 1 (int)", "type boolean"),
        ({"sample": {"train": {}}}, "sample.train.per_class: missing", "add it"),
        ({"dataset": {"quads": {"val": 1}}}, "dataset.quads.val: found 1 (int)", "at least 2"),
        ({"model": {"width": 33}}, "model.width: found 33", "a multiple of model.heads (2)"),
        (
            {"perturbation": {"operators": ["mask_tokens"]}},
            "perturbation.operators: unknown operator 'mask_tokens'",
            "did you mean mask_token",
        ),
        (
            {"perturbation": {"arguments": {"blur": {"sigma": 0}}}},
            "perturbation.arguments.blur.sigma: found 0",
            "more than 0",
        ),
        ({"explain": {"shards": 0}}, "explain.shards: found 0", "at least 1"),
        ({"explain": {"seeds": 3}, "seeds": [0, 1]}, "explain.seeds: found 3", "at most 2"),
        ({"perturbation": {"steps": [0, 0.5]}}, "perturbation.steps: found [0, 0.5]", "0 to 1"),
        ({"perturbation": {"steps": [0.1, 1]}}, "perturbation.steps: found [0.1, 1]", "0 to 1"),
        ({"perturbation": {"steps": [1, 0]}}, "perturbation.steps: found [1, 0]", "rising"),
        ({"methods": ["rolout"]}, "methods: unknown method 'rolout'", "did you mean rollout?"),
        ({"training_of": {"vilt_scratch": {"epochs": 0}}},
         "training_of.vilt_scratch.epochs: found 0", "at least 1"),
        ({"training_of": {"vilt_scrach": {}}}, "training_of: unknown model", "vilt_scratch"),
        ({"explain": {"grad_cam_layers": {"vit": {}}}}, "explain.grad_cam_layers: unknown model",
         "vilt_scratch"),
        ({"explain": {"arguments": {"dsmy": {}}}}, "explain.arguments: unknown method 'dsmy'",
         "did you mean dsmi"),
        ({"explain": {"arguments": {"dsmi_grad": {"layer": "all"}}}},
         "unknown key 'explain.arguments.dsmi_grad.layer'", "did you mean layers?"),
        ({"explain": {"arguments": {"dsmi": {"sign": "max"}}}},
         'explain.arguments.dsmi.sign: found "max"', '"abs", "minority"'),
        ({"explain": {"arguments": {"rollout": {"crosses": 1}}}},
         "explain.arguments.rollout.crosses: found 1 (int)", "type boolean"),
        ({"explain": {"arguments": {"reversed": {"method": "salienzy"}}}},
         "explain.arguments.reversed.method: unknown method 'salienzy'", "did you mean saliency"),
        ({"cases": [{"model": "text_only"}]}, "cases.0.name: missing", "add it"),
        ({"cases": [{"name": "a", "model": "vilt"}]}, "cases.0.model: found 'vilt'",
         "one of the run's models (text_only, vilt_scratch)"),
        ({"cases": [{"name": "a", "model": "vilt_scratch", "text": "b"}]},
         "cases.0.image: missing, and vilt_scratch reads it", "sample_id"),
        ({"cases": [{"name": "a", "model": "text_only", "text": "b", "sample_id": "1"}]},
         "cases.0.text: not used with sample_id", "remove it"),
        ({"cases": [{"name": "a", "model": "text_only", "sample_id": str(k)} for k in range(2)]},
         "cases.1.name: 'a' occurs more than once", "rename it"),
        ({"cases": [{"name": "a", "model": "text_only", "text": "b", "methods": ["rolout"]}]},
         "cases.0.methods: unknown method 'rolout'", "did you mean rollout?"),
        ({"cases": [{"name": "../a", "model": "text_only", "text": "b"}]},
         "cases.0.name: found", "starting with a letter or digit"),
        ({"explain": {"arguments": {"raw_attention": {"head": -1}}}},
         "explain.arguments.raw_attention.head: found -1", "at least 0"),
        ({"explain": {"arguments": {"saliency": {"samples": 1}}}},
         "unknown key 'explain.arguments.saliency.samples'", "known are"),
        ({"features": {"extractors": ["stem"]}, "stem": {"pretrain": False}},
         "features.extractors: stem needs", "stem.pretrain: true"),
        ({"features": {"extractors": ["stem_regions"]}, "stem": {"pretrain": False}},
         "features.extractors: stem_regions needs", "stem.pretrain: true"),
        ({"models": ["blip_frozen"]}, "features.extractors: empty", "blip_frozen read features"),
        ({"features": {"extractors": ["resnet50"]}}, "unknown extractor 'resnet50'", "resnet"),
        ({"features": {"settings": {"clipp": {}}}}, "unknown extractor 'clipp'", "clip"),
        ({"features": {"of": {"blip_frozen": "clip"}}}, "features.of.blip_frozen: 'clip' is not",
         "add it"),
    ],
)  # fmt: skip
def test_mistake_is_named_with_key_found_and_expected(changes, found, expected):
    (problem,) = problems_of(config_with(changes))
    assert found in problem
    assert expected in problem


@pytest.mark.parametrize("key", ["run", "dataset", "models", "methods"])
def test_missing_section_is_named(key):
    config = config_with()
    del config[key]
    assert problems_of(config) == [f"{key}: missing; add it to the config"]


def test_unknown_model_and_kind_name_the_known_ones():
    problems = problems_of(config_with({"models": ["vilt_scratch", "clip_scrath"]}))
    assert problems == [
        "models: unknown model 'clip_scrath': did you mean clip_scratch or blip_scratch or "
        f"vilt_scratch? known are {', '.join(MODELS.names())}"
    ]
    config = config_with(dataset={"kind": "hatefull_memes"}, stem={"pretrain": False})
    (problem,) = problems_of(config)
    assert problem.startswith("dataset.kind: unknown dataset 'hatefull_memes': did you mean hatef")


def test_pretraining_the_stem_needs_instances():
    for dataset in (TABLE, JSONL):
        (problem,) = problems_of(config_with(dataset=dataset))
        assert problem.startswith("stem.pretrain: found true")
        assert "dataset.instances" in problem
        assert "stem.pretrain: false" in problem
        complete_config(config_with({"stem": {"pretrain": False}}, dataset=dataset), SCHEMA)
        instances = {"train": "instances.json"}
        complete_config(config_with(dataset={**dataset, "instances": instances}), SCHEMA)


def test_several_mistakes_are_all_reported():
    changes = {"modells": 1, "device": "gpu", "training": {"epochs": True, "lr": -1}}
    problems = problems_of(config_with(changes))
    for text in ("'modells'", "device: ", "training.epochs: ", "training.lr: "):
        assert sum(text in problem for problem in problems) == 1
    assert len(problems) == 4
    changes = {
        "model": {"width": 33},
        "methods": ["no"],
        "training_of": {"vilt_scratch": {"clip": 0}},
    }
    assert len(problems_of(config_with(changes))) == 3


def test_a_case_takes_the_methods_of_the_run():
    cases = [{"name": "a", "model": "text_only", "text": "b"}]
    cases.append({**cases[0], "name": "c", "methods": ["rollout"]})
    full = complete_config(config_with({"cases": cases}), SCHEMA)
    assert [case["methods"] for case in full["cases"]] == [full["methods"], ["rollout"]]


def test_modalities_that_a_run_reads():
    def read_by(*models):
        return modalities_read({"models": models, "variants": {"words": {"model": "text_only"}}})

    assert read_by("text_only") == read_by("words") == ["text"]
    assert read_by("image_only") == ["image"]
    assert read_by("text_only", "image_only") == ["image", "text"]


def test_nested_unknown_key_gets_a_suggestion():
    (problem,) = problems_of(config_with({"training": {"epoch": 3}}))
    assert "unknown key 'training.epoch': did you mean" in problem


def test_unknown_key_of_a_single_model_has_its_dotted_name():
    (problem,) = problems_of(config_with({"training_of": {"vilt_scratch": {"epoch": 3}}}))
    assert "unknown key 'training_of.vilt_scratch.epoch'" in problem


def test_models_can_be_chosen_without_touching_training_of():
    complete_config(config_with(models=["text_only"]), SCHEMA)


@pytest.mark.parametrize("on", ["on", True])
def test_groups_can_be_joined(on):
    groups = {"table": "groups.csv", on: "image"}
    config = config_with({"stem": {"pretrain": False}}, dataset={**TABLE, "groups": groups})
    full = complete_config(config, SCHEMA)
    assert full["dataset"]["groups"] == {"table": "groups.csv", "on": "image"}


def test_missing_kind_is_one_problem():
    assert problems_of(config_with(dataset={})) == ["dataset.kind: missing; add it to the config"]


@pytest.mark.parametrize("changes", [{"training": {"epochs": 5.0}}, {"seeds": [0.0]}])
def test_float_is_no_integer(changes):
    (problem,) = problems_of(config_with(changes))
    assert "(float), expected a value of type integer" in problem


COCO = {"kind": "coco"}
VQA = {"kind": "vqa"}


def test_models_of_one_modality_are_refused_where_labels_are_classes():
    (problem,) = problems_of(config_with(dataset=COCO))
    assert problem == (
        "models: text_only reads one modality, but dataset.kind coco asks how well the names of "
        "classes fit an image; remove it"
    )
    asked = {"asked": {"model": "generative", "weights": "weights", "train": False}}
    changes = {"models": ["asked"], "variants": asked, "weights": {"weights": {"hub": "you/it"}}}
    (problem,) = problems_of(config_with(changes, dataset=COCO))
    assert problem == (
        "models: asked is for labels of kind binary, but those of dataset.kind coco are classes; "
        "remove it"
    )
    full = complete_config(config_with({"models": []}, dataset=COCO), SCHEMA)
    assert full["dataset"]["count"] == 1000
    assert full["dataset"]["broken"] == "exclude"


def test_choice_of_all_images_is_null():
    config = config_with({"models": []}, dataset={**COCO, "count": None})
    assert complete_config(config, SCHEMA)["dataset"]["count"] is None
    (problem,) = problems_of(config_with({"models": []}, dataset={**COCO, "count": 0}))
    assert problem.startswith("dataset.count: found 0 (int), expected at least 1")


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({"vocabulary": "train"}, "dataset.train_annotations: missing"),
        ({"train_annotations": "t.json"}, "not used with dataset.vocabulary vilt; remove it"),
        ({"vocabulary": "lxmert", "train_annotations": "t.json"}, "dataset.vocabulary lxmert;"),
        (
            {"vocabulary": "train", "train_annotations": "t.json", "answers": "a.json"},
            "dataset.answers: not used with dataset.vocabulary train; remove it",
        ),
    ],
)
def test_keys_of_vqa_that_need_or_exclude_each_other(more, found):
    (problem,) = problems_of(config_with({"models": []}, dataset={**VQA, **more}))
    assert found in problem


@pytest.mark.parametrize("dataset", [COCO, VQA])
def test_addresses_are_those_of_the_known_versions(dataset):
    full = complete_config(config_with({"models": []}, dataset=dataset), SCHEMA)["dataset"]
    versions = read_versions(full["kind"])
    assert full["sources"] == {name: row["url"] for name, row in versions.items()}


def test_no_model_reads_everything():
    assert modalities_read({"models": []}) == ["image", "text"]


def test_a_variant_is_a_model_under_another_name():
    variants = {"first": {"model": "vilt_scratch", "arguments": {"width": 16}}}
    config = config_with({"variants": variants}, models=["first", "text_only"])
    full = complete_config(config, SCHEMA)["variants"]
    assert list(full) == ["first", "text_only"]
    assert full["first"]["arguments"] == {"width": 16}
    assert full["text_only"] == {
        **{"model": "text_only", "arguments": {}, "weights": None},
        **{"max_length": None, "captions": True, "train": True},
    }
    # One that the run does not list is no model of it, as with files laid over each other.
    assert list(complete_config({**config, "models": ["text_only"]}, SCHEMA)["variants"]) == [
        "text_only"
    ]


def test_mistakes_in_variants_are_named():
    variants = {"first": {"model": "vilt_scrach"}, "clip_scratch": {"model": "vilt_scratch"}}
    config = config_with({"variants": variants}, models=["first", "second"])
    unknown, other_name, missing = problems_of(config)
    assert unknown.startswith("variants.first.model: unknown model 'vilt_scrach': did you mean")
    assert other_name.startswith("variants.clip_scratch: is the name of another model")
    assert missing.startswith("models: unknown model 'second'")
    (problem,) = problems_of(config_with({"variants": {"first": {}}}))
    assert problem == "variants.first.model: missing; add it to the config"


@pytest.mark.parametrize("uri", ["results/mlruns", "file:///data/mlruns", "sqlite://", "mlflow.db"])
def test_tracking_store_is_a_database_or_a_server(uri):
    problems = problems_of(config_with(tracking={"mlflow": True, "uri": uri}))
    assert problems == [
        f"tracking.uri: found {uri!r}, expected sqlite:///<file>, postgresql://..., mysql://..., "
        "mssql://..., http://... or https://...; parallel jobs would damage a folder of files"
    ]


def test_tracking_is_off_and_has_a_database_by_default():
    tracking = complete_config(config_with(), SCHEMA)["tracking"]
    assert (tracking["mlflow"], tracking["uri"]) == (False, "sqlite:///results/mlflow.db")
    for uri in ("sqlite:////data/x.db", "postgresql+psycopg2://host/name", "https://host:5000"):
        complete_config(config_with(tracking={"mlflow": True, "uri": uri}), SCHEMA)


def test_insertion_needs_the_deletion_that_it_is_computed_from():
    config = config_with(perturbation={"procedures": ["insertion"]})
    (problem,) = problems_of(config)
    assert problem.startswith("perturbation.procedures: found insertion alone")
