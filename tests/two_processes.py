"""One of the processes that train together, for tests/unit/test_processes.py.

    torchrun --nproc_per_node 2 tests/two_processes.py FOLDER STATE OUTPUT [STEP]

computes the gradient of one batch, trains the text-only model on the data of FOLDER, and writes
both to OUTPUT; with STEP, the last process alone gets SIGTERM in that optimiser step.
"""

import sys
from pathlib import Path

import torch

sys.path += [str(Path(__file__).resolve().parents[1] / "scripts")]

from training_data import (
    TOGETHER,
    joint_gradient,
    new_model,
    read_data,
    send_in_step,
)

from mmlens.training.loop import train
from mmlens.training.processes import join_processes

if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, state_path, output = map(Path, sys.argv[1:4])
    data, processes = read_data(folder), join_processes(torch.device("cpu"))
    gradient = joint_gradient(new_model(data, "text_only"), data, processes)
    if len(sys.argv) > 4 and processes.rank == processes.count - 1:
        send_in_step("SIGTERM", int(sys.argv[4]))
    model = new_model(data, "text_only", dropout=0.1)
    train(
        model, data, TOGETHER, seed=3, device="cpu", state_path=state_path, processes=processes
    )  # fmt: skip
    plain = new_model(data, "text_only")
    train(
        plain, data, TOGETHER, seed=3, device="cpu", state_path=state_path.with_suffix(".plain"),
        processes=processes,
    )  # fmt: skip
    if processes.is_first:
        parts = {"dropout": model.state_dict(), "plain": plain.state_dict()}
        torch.save({"count": processes.count, "gradient": gradient, **parts}, output)
