"""The repository agrees with itself: pins, rule names, documentation."""

import os
import re
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT

from mmlens.config import complete_config
from mmlens.config_schema import document, read_schema
from mmlens.datasets import DATASETS, DOWNLOADS
from mmlens.explanation import METHODS
from mmlens.features import EXTRACTORS
from mmlens.models import MODELS, list_models
from mmlens.robustness import CORRUPTIONS

SCHEMA = read_schema(ROOT / "workflow/schemas/config.schema.yaml")
# Names that differ between PyPI and conda-forge.
CONDA_NAMES = {"huggingface_hub": "huggingface-hub", "pytorch": "torch"}


@pytest.mark.parametrize("name", ["explanations", "features", "robustness", "training"])
def test_benchmarks_start_by_the_command_of_their_docs(name):
    bare = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, f"benchmarks/{name}.py", "--help"]
    done = subprocess.run(command, cwd=ROOT, env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert name in done.stdout


def locked(name):
    """{package: version} of a lock file."""
    text = (ROOT / name).read_text()
    return dict(re.findall(r"^([a-zA-Z0-9_.-]+)==([^\s;\\]+)", text, re.MULTILINE))


@pytest.mark.parametrize("path", sorted((ROOT / "envs").glob("*.yaml")), ids=lambda p: p.name)
def test_environment_pins_agree_with_the_lock(path):
    tracking = locked("requirements-tracking.txt") if path.name == "tracking.yaml" else {}
    versions = {**tracking, **locked("requirements.txt")}
    for line in yaml.safe_load(path.read_text())["dependencies"]:
        name, version = (part.strip() for part in line.split("="))
        if name != "python":
            assert versions[CONDA_NAMES.get(name, name)] == version, line


def test_locks_are_hashed_and_name_no_index():
    for name in ("requirements.txt", "requirements-dev.txt", "requirements-tracking.txt"):
        text = (ROOT / name).read_text()
        packages = re.findall(r"^[a-zA-Z0-9_.-]+==", text, re.MULTILINE)
        entries = re.split(r"^(?=[a-zA-Z0-9_.-]+==)", text, flags=re.MULTILINE)[1:]
        assert len(packages) == len(entries) > 100
        assert all("--hash=sha256:" in entry for entry in entries)
        assert "index-url" not in text
        assert "://" not in text


def test_development_lock_extends_the_other():
    assert locked("requirements.txt").items() <= locked("requirements-dev.txt").items()


def test_tracking_lock_differs_from_the_other_in_what_mlflow_holds_back():
    plain, tracking = locked("requirements.txt"), locked("requirements-tracking.txt")
    assert {name for name in plain if plain[name] != tracking.get(name)} == {"pyarrow"}
    assert "mlflow" in tracking
    assert "mlflow" not in locked("requirements-dev.txt")


def test_rules_scripts_logs_and_benchmarks_have_one_name():
    scripts = set()
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        text = path.read_text()
        assert not re.search(r"^\s+run:", text, re.MULTILINE)
        for rule in re.split(r"^rule ", text, flags=re.MULTILINE)[1:]:
            name = rule.split(":")[0]
            if "script:" not in rule:
                continue
            scripts.add(name)
            assert f'"../../scripts/{name}.py"' in rule
            assert f"/logs/{name}" in rule
            assert f"/benchmarks/{name}" in rule
            for directive in ("conda:", "resources:", "threads:"):
                assert directive in rule, f"{name} has no {directive}"
    commands = {"explain_text"}  # of no run
    assert scripts | commands == {path.stem for path in (ROOT / "scripts").glob("*.py")}


def test_configuration_table_agrees_with_the_schema():
    assert (ROOT / "config/README.md").read_text().endswith("\n".join(document(SCHEMA)) + "\n")


def test_default_config_states_defaults_or_says_why():
    """Every value of config.yaml that differs from the schema's default is one of these."""
    written = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    required = {key: written[key] for key in SCHEMA["required"]}
    required["features"] = {"extractors": written["features"]["extractors"]}
    plain = complete_config(required, SCHEMA)
    full = complete_config(written, SCHEMA)
    different = {key for key in full if full[key] != plain[key]}
    assert different == {"explain", "features", "training", "training_of"}


def test_readme_names_every_model_and_method():
    text = (ROOT / "README.md").read_text()
    assert all(name in text for name in [*MODELS.names(), *METHODS.names(), *EXTRACTORS.names()])
    assert len(re.findall(r"^pip install -r requirements", text, re.MULTILINE)) == 2


def test_models_are_listed_and_found_by_name():
    assert list_models() == MODELS.names()
    assert MODELS.get("vilt_scratch").name == "vilt_scratch"
    with pytest.raises(ValueError, match="did you mean vilt_scratch"):
        MODELS.get("vilt_scrach")


def test_every_registered_entry_can_be_imported():
    for registry in (MODELS, METHODS, EXTRACTORS, DATASETS, DOWNLOADS, CORRUPTIONS):
        for name in registry.names():
            entry = registry.get(name)
            assert entry.name == name
            assert entry.__doc__


def test_slurm_profile_sends_to_gpus_the_rules_that_ask_for_one():
    asking = set()
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        for rule in re.split(r"^rule ", path.read_text(), flags=re.MULTILINE)[1:]:
            if re.search(r"^ +gpu=", rule, re.MULTILINE):
                asking.add(rule.split(":")[0])
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    partitions = {rule: own["slurm_partition"] for rule, own in profile["set-resources"].items()}
    assert partitions == dict.fromkeys(asking, "gpu")
    assert profile["default-resources"]["slurm_partition"] == "cpu"


def test_slurm_profile_is_found_by_name():
    assert (ROOT / "slurm").resolve() == ROOT / "profiles/slurm"
    default = yaml.safe_load((ROOT / "profiles/default/config.yaml").read_text())
    assert "resources" not in default
