"""A training process that is killed at any step, and its successors: the same weights."""

import random
import signal
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from training_data import read_data, train_exactly, write_data

STEPS = 9  # 48 samples, 8 per batch, 2 batches per step, 3 epochs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generated")
    write_data(folder)
    return folder


def killed(folder, state_path, name, step):
    """Train in a process that gets a signal in its optimiser step `step`."""
    command = [sys.executable, ROOT / "tests/training_data.py", folder, state_path, name, step]
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=300, check=False
    )


def test_killed_at_any_step_and_resumed_it_ends_in_the_same_weights(folder, tmp_path):
    data, state_path = read_data(folder), tmp_path / "state.pt"
    expected = train_exactly(data, tmp_path / "whole.pt").state_dict()

    first = random.randint(1, 5)
    done = killed(folder, state_path, "SIGTERM", first)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert "ended by SIGTERM" in done.stdout
    assert torch.load(state_path, weights_only=True)["schedule"]["last_epoch"] == first

    second = random.randint(2, STEPS - first)
    done = killed(folder, state_path, "SIGKILL", second)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert "resuming after epoch" in done.stdout
    # Nothing but the step in which it was killed is lost.
    steps = torch.load(state_path, weights_only=True)["schedule"]["last_epoch"]
    assert steps == first + second - 1

    found = train_exactly(data, state_path).state_dict()
    for name, value in expected.items():
        assert torch.equal(found[name], value), (name, first, second)


def test_a_kill_before_the_first_state_starts_anew(folder, tmp_path):
    state_path = tmp_path / "state.pt"
    assert killed(folder, state_path, "SIGKILL", 1).returncode == -signal.SIGKILL
    assert not state_path.exists()
    data = read_data(folder)
    found = train_exactly(data, state_path).state_dict()
    expected = train_exactly(data, tmp_path / "whole.pt").state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
