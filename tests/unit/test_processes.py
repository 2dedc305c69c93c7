"""Two processes that train one model: the gradients and weights of one process."""

import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from training_data import TOGETHER, joint_gradient, new_model, write_data

from mmlens.training.loop import train
from mmlens.training.processes import ALONE, Processes


def run_two(*arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [ROOT / "tests/two_processes.py", *arguments]
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=300, check=False
    )


def test_every_sample_has_one_process():
    for batch in (1, 2, 7, 64):
        for count in (1, 2, 3):
            rows = torch.arange(batch)
            parts = [Processes(count, rank).part(batch) for rank in range(count)]
            assert sum(share for _, share in parts) == pytest.approx(1)
            taken = [row for part, share in parts if share for row in rows[part].tolist()]
            assert sorted(taken) == rows.tolist()
            assert all(len(rows[part]) for part, _ in parts)


def test_one_process_exchanges_nothing():
    assert ALONE.part(5) == (slice(0, None, 1), 1.0)
    assert ALONE.total(3) == 3
    assert ALONE.gather("record") == ["record"]


def test_two_processes_have_the_gradient_and_the_weights_of_one(tmp_path):
    data = write_data(tmp_path / "data")
    done = run_two(tmp_path / "data", tmp_path / "state.pt", tmp_path / "found.pt")
    assert done.returncode == 0, done.stdout + done.stderr
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    assert found["count"] == 2
    expected = joint_gradient(new_model(data, "text_only"), data)
    assert expected["unused"] is None
    assert found["gradient"]["unused"] is None
    for name, gradient in expected.items():
        if gradient is not None:
            difference = (found["gradient"][name] - gradient).abs().max()
            assert difference <= 1e-6 * max(1.0, gradient.abs().max()), name
    alone = new_model(data, "text_only")
    train(alone, data, TOGETHER, seed=3, device="cpu", state_path=tmp_path / "alone.pt")
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(found["plain"][name], value, atol=1e-6, rtol=1e-5)
    assert done.stdout.count("epoch=1 ") == 2  # two trainings, one of the processes speaks


@pytest.mark.slow
def test_two_processes_continue_where_one_of_them_was_told_to_end(tmp_path):
    write_data(tmp_path / "data")
    done = run_two(tmp_path / "data", tmp_path / "state.pt", tmp_path / "found.pt")
    assert done.returncode == 0, done.stdout + done.stderr
    part = (tmp_path / "data", tmp_path / "part.pt", tmp_path / "resumed.pt")
    done = run_two(*part, 4)
    assert done.returncode != 0
    assert "exitcode  : 143" in done.stdout + done.stderr
    state = torch.load(tmp_path / "part.pt", weights_only=True)
    assert state["schedule"]["last_epoch"] == 4
    assert len(state["random"]) == 2
    done = run_two(*part)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resuming after epoch 1 and batch" in done.stdout
    found = [torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in ("found", "resumed")]
    for name, value in found[0]["dropout"].items():
        assert torch.equal(found[1]["dropout"][name], value), name
