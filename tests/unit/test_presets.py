"""Presets of training: valid, found by name, between the run's keys and a model's own."""

import copy

import pytest
from conftest import ROOT
from test_config import SCHEMA, config_with, problems_of

from mmlens.config import PRESETS, complete_config, presets, read_preset
from mmlens.config_schema import errors_of, fill_defaults
from mmlens.models import MODELS
from mmlens.training.optimisation import parameter_groups

TRAINING = SCHEMA["properties"]["training"]


@pytest.mark.parametrize("name", presets())
def test_preset_holds_valid_keys_and_says_how_long_it_trains(name):
    preset = read_preset(name)
    assert not errors_of(preset, TRAINING)
    assert ("epochs" in preset) != ("updates" in preset)
    assert (PRESETS / f"{name}.yaml").read_text().startswith("# ")


def test_the_two_presets_of_one_study_differ_in_alpha_alone():
    published, corrected = read_preset("seed_vilbert"), read_preset("seed_vilbert_corrected")
    assert (published["loss"].pop("alpha"), corrected["loss"].pop("alpha")) == (0.35, 0.65)
    assert published == corrected


def test_all_presets_are_in_the_documentation():
    text = (ROOT / "docs/training.md").read_text()
    assert all(f"`{name}`" in text for name in presets())


def test_factors_of_meter_reach_its_cross_modal_layers_and_its_head():
    """As published: what bears these names, transforms and poolers included."""
    model = MODELS.get("meter")(20, 8, width=16, heads=2, image_size=32, outputs=5)
    chosen = fill_defaults(read_preset("meter_vqa"), TRAINING)
    names = {id(p): name for name, p in model.named_parameters()}
    rates = {
        names[id(p)]: group["lr"] / chosen["lr"]
        for group in parameter_groups(model, chosen)
        for p in group["params"]
    }
    factors = {"cross_modal": 5, "vqa_classifier": 50}
    expected = {n: next((f for k, f in factors.items() if k in n), 1) for n in names.values()}
    assert rates == pytest.approx(expected)
    assert set(expected.values()) == {1, 5, 50}


def completed(own, **section):
    """Section training of a model that the default run has no keys of its own for."""
    changes = {"training": section, "training_of": {"text_only": own}}
    return complete_config(config_with(changes), SCHEMA)["training_of"]["text_only"]


def test_preset_counts_before_the_section_and_after_a_models_own_keys():
    found = completed({"preset": "mmf_vilbert", "lr": 2e-5}, lr=1.0, ema=0.9, batch_size=7)
    assert (found["lr"], found["ema"], found["batch_size"]) == (2e-5, 0.9, 32)
    assert (found["updates"], found["warmup"]) == (22000, 2000)
    assert found["masked_words"] == {"weight": 0, "probability": 0.4, "label": 0}
    assert "preset" not in found


def test_epochs_of_a_higher_layer_replace_the_updates_of_a_lower_one():
    assert completed({"preset": "mmf_vilbert", "epochs": 2})["updates"] is None
    assert completed({"preset": "clip_mlp"}, updates=9)["updates"] is None
    assert completed({"preset": "clip_mlp", "updates": 5})["updates"] == 5
    assert completed({}, updates=9)["updates"] == 9


def test_an_unknown_preset_lists_the_known_ones():
    (problem,) = problems_of(
        config_with({"training_of": {"vilt_scratch": {"preset": "mmf_vilbrt"}}})
    )
    assert "training_of.vilt_scratch.preset: unknown preset 'mmf_vilbrt'" in problem
    assert "did you mean mmf_vilbert" in problem
    (problem,) = problems_of(config_with({"training_of": {"vilt_scratch": {"preset": 3}}}))
    assert "preset: found 3 (int), expected a value of type string" in problem


def test_adapters_have_defaults_wherever_they_are_asked_for():
    expected = {"rank": 8, "alpha": 16, "dropout": 0.0, "targets": ["query"], "whole": []}
    assert completed({"lora": {"targets": ["query"]}})["lora"] == expected
    assert completed({}, lora={"targets": ["query"]})["lora"] == expected
    (problem,) = problems_of(config_with({"training": {"lora": {"rank": 4}}}))
    assert "training.lora.targets: missing" in problem


def test_betas_are_two():
    for betas, expected in (([0.9], "at least 2 entries"), ([0.9, 0.9, 0.9], "at most 2 entries")):
        config = copy.deepcopy(config_with({"training": {"betas": betas}}))
        (problem,) = problems_of(config)
        assert "training.betas" in problem
        assert expected in problem
