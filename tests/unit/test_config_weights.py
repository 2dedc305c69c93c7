"""Section weights: what is refused, what a run uses, and where it lies."""

import pytest
from test_config import SCHEMA, config_with, problems_of

from mmlens.config import complete_config, used_weights, weights_path

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
