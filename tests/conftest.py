"""Shared by all tests: where things are, and how to run the real command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
DEMO = ROOT / "config/test/demo.yaml"

torch.set_num_threads(1)
# No test depends on how busy the machine is.
settings.register_profile("mmlens", deadline=None)
settings.load_profile("mmlens")


def snakemake(*arguments, directory, environment=None, timeout=2400):
    """Run Snakemake on the workflow of this checkout in `directory`; a CompletedProcess."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    return subprocess.run(
        [*command, "--directory", str(directory), *map(str, arguments)],
        cwd=ROOT,
        env=environment or os.environ.copy(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def tables(folder):
    """{name: bytes} of the tables of a run, without those that carry times."""
    paths = sorted((Path(folder) / "tables").glob("*.csv"))
    timed = ("cost.csv", "model_cost.csv")
    return {path.name: path.read_bytes() for path in paths if path.name not in timed}


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """Folder results/test of one real run of config/test/demo.yaml, shared by all tests."""
    directory = tmp_path_factory.mktemp("demo")
    done = snakemake("--cores", "2", "--configfile", DEMO, directory=directory)
    assert done.returncode == 0, done.stdout + done.stderr
    return directory / "results/test"


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """{extractor: arguments with the path of small weights}, shared by all tests."""
    from checkpoints import small_checkpoints  # only tests of extractors pay for its imports

    return small_checkpoints(tmp_path_factory.mktemp("checkpoints"))
