"""Weights: where they are, what a run starts from, and whether it trains it."""

import json

import pytest
from test_config import SCHEMA, config_with, problems_of

from mmlens.config import complete_config, needs_stem
from mmlens.config_weights import used_weights, weights_path

HUB = {"hub": "you/clip", "revision": "v1"}


def variant(weights, **arguments):
    """A config with one variant that starts from `weights`."""
    own = {"model": "vilbert", "weights": weights, "arguments": arguments}
    return {"models": ["own"], "variants": {"own": own}, "features": {"extractors": ["pixels"]}}


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({}, "weights.w: found none of hub, url and path, expected one"),
        ({"hub": "a/b", "url": "http://c"}, "weights.w: found hub and url, expected one of"),
        ({"path": "a", "revision": "b"}, "weights.w.revision: belongs to hub, which it lacks"),
        ({"hub": "a/b", "sha256": "0" * 64}, "weights.w.sha256: belongs to url, which it lacks"),
        ({"url": "http://a/b", "sha256": "0"}, "expected 64 digits of a SHA-256"),
        (
            {"hub": "a/b", "tensors": 1},
            "weights.w.tensors: found 1 (int), expected a value of type",
        ),
        ({"repo": "a/b"}, "unknown key 'weights.w.repo'"),
    ],
)
def test_an_entry_is_in_one_place(entry, expected):
    (problem,) = problems_of(config_with({"weights": {"w": entry}}))
    assert expected in problem


def test_what_the_run_starts_from_is_there(tmp_path):
    (problem,) = problems_of(config_with(variant("missing"), weights={"there": HUB}))
    assert problem.startswith(
        "variants.own.weights: 'missing' is no entry of section weights (there)"
    )
    (problem,) = problems_of(config_with(variant("there", tokenizer="no"), weights={"there": HUB}))
    assert problem.startswith("variants.own.arguments.tokenizer: 'no' is no entry of section")
    gone = {"mine": {"path": str(tmp_path / "gone")}}
    (problem,) = problems_of(config_with(variant("mine"), weights=gone))
    assert problem.startswith(f"weights.mine.path: {tmp_path}/gone is no folder or file")
    # Of a model that this run does not have, nothing needs to be there.
    complete_config(config_with(variant("mine"), weights=gone, models=["text_only"]), SCHEMA)


def test_a_copy_of_ones_own_is_read_in_place_of_a_download(tmp_path):
    entry = {"clip": {**HUB, "path": str(tmp_path)}}
    config = complete_config(config_with(variant("clip"), weights=entry), SCHEMA)
    assert weights_path(config, "clip") == str(tmp_path)


def test_names_become_paths(tmp_path):
    entries = {
        "clip": HUB,
        "cc": {"url": "https://example.org/pretrained_model.bin"},
        "mine": {"path": str(tmp_path)},
    }
    changes = variant("cc", tokenizer="clip")
    changes["features"] = {"extractors": ["clip"], "settings": {"clip": {"weights": "mine"}}}
    config = complete_config(config_with(changes, weights=entries), SCHEMA)
    assert used_weights(config) == {
        "variants.own.weights": "cc",
        "variants.own.arguments.tokenizer": "clip",
        "features.settings.clip.weights": "mine",
    }
    paths = {value: weights_path(config, value) for value in [*entries, "some/folder"]}
    assert paths == {
        "clip": "resources/weights/clip",
        "cc": "resources/weights/cc/model.safetensors",
        "mine": str(tmp_path),
        "some/folder": "some/folder",
    }


def test_a_model_that_is_not_trained_has_weights():
    own = {"model": "vilt_scratch", "train": False}
    (problem,) = problems_of(config_with({"variants": {"own": own}}, models=["own"]))
    assert problem.startswith("variants.own.train: found false, but it has no weights to be used")


def test_an_exported_checkpoint_takes_no_arguments(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"mmlens_version": "1", "network": None}))
    own = {"model": "vilt_scratch", "weights": str(tmp_path), "arguments": {"width": 16}}
    (problem,) = problems_of(config_with({"variants": {"own": own}}, models=["own"]))
    assert problem.startswith("variants.own.arguments: not used with the exported checkpoint")
    complete_config(config_with({"variants": {"own": {**own, "arguments": {}}}}), SCHEMA)


def test_what_is_explained_is_predicted():
    (problem,) = problems_of(config_with(predict={"splits": ["train", "val"]}))
    assert problem == "predict.splits: found train, val, expected also explain.split (test)"
    complete_config(config_with({"explain": {"split": "val"}}, predict={"splits": ["val"]}), SCHEMA)


def test_a_stem_is_pretrained_for_those_that_start_from_it(tmp_path):
    def needed(models, extractors=(), **variants):
        changes = {"variants": variants, "features": {"extractors": list(extractors)}}
        return needs_stem(complete_config(config_with(changes, models=models), SCHEMA))

    (tmp_path / "config.json").write_text("{}")
    own = {"model": "vilt_scratch", "weights": str(tmp_path)}
    assert needed(["vilt_scratch"])
    assert needed(["text_only"], ["stem"])
    assert not needed(["text_only"])
    assert not needed(["own"], own=own)


def test_a_head_on_a_frozen_encoder_needs_the_encoders_weights():
    (problem,) = problems_of(config_with({"models": ["clip_mlp"]}))
    assert problem.startswith("variants.clip_mlp.weights: missing, but clip_mlp is made to start")
