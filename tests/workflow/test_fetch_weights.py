"""Weights as inputs of the workflow: fetched once, and what starts from them follows a change."""

import os
from pathlib import Path

import pytest
import yaml
from conftest import DEMO, snakemake
from loopback import serving
from safetensors.torch import load, save

pytestmark = pytest.mark.slow


def halved(content):
    """A file of safetensors with every tensor divided by two."""
    return save({name: tensor / 2 for name, tensor in load(content).items()})


def write_config(folder, revision):
    features = {"extractors": ["clip"], "settings": {"clip": {"weights": "tower"}}, "threads": 1}
    sizes = {"train": 2, "val": 2, "test": 2}
    config = {"features": features, "dataset": {"quads": sizes}}
    config["weights"] = {"tower": {"hub": "you/clip", "revision": revision}}
    path = folder / "tower.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def test_features_by_weights_of_a_hub(tmp_path, checkpoints):
    first = {
        path.name: path.read_bytes() for path in Path(checkpoints["clip"]["weights"]).iterdir()
    }
    second = {**first, "model.safetensors": halved(first["model.safetensors"])}
    with serving() as server:
        server.add_model_to_hub("you/clip", first, "v1")
        server.add_model_to_hub("you/clip", second, "v2", commit="d1" * 20)
        environment = os.environ | {"HF_ENDPOINT": server.url("")}

        def features(revision):
            config = write_config(tmp_path, revision)
            arguments = ["--cores", "1", "--configfile", DEMO, config, "--", "features"]
            done = snakemake(*arguments, directory=tmp_path, environment=environment)
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stderr

        features("v1")
        folder = tmp_path / "resources/weights/tower"
        assert {path.name for path in folder.glob("[!.]*")} == {*first, "weights.json"}
        facts = tmp_path / "results/test/features/clip/facts.json"
        before = facts.read_text()

        server.asked.clear()
        assert "Nothing to be done" in features("v1")
        assert server.asked == []
        features("v2")
        assert facts.read_text() != before
