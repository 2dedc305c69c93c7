"""Several processes of one node that train one model together, through Accelerate (optional).

A script that every process runs from its beginning is started by `launch`; in it `join_processes`
tells which of them it is. What they exchange goes through gloo on a CPU and NCCL on GPUs.
"""

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Processes:
    """The processes that share a training; with count 1 nothing is exchanged.

    Every batch is split among them, and their gradients are added, so that a step is that of one
    process on the whole batch. All methods but `part` are to be called by all of them.
    """

    count: int = 1
    rank: int = 0

    @property
    def is_first(self):
        """Whether this is the one that validates and writes."""
        return self.rank == 0

    def part(self, batch):
        """Rows (slice) of a batch of `batch` samples for this process, and their share of it.

        Where there is none left for it, its row is the first one and its share 0.
        """
        own = len(range(self.rank, batch, self.count))
        if not own:
            return slice(0, 1), 0.0
        return slice(self.rank, None, self.count), own / batch

    def total(self, value):
        """Sum of a number over all processes."""
        if self.count == 1:
            return value
        from accelerate import PartialState
        from accelerate.utils import reduce

        device = PartialState().device  # NCCL takes tensors of a GPU only
        return reduce(torch.tensor(value, dtype=torch.float64, device=device), "sum").item()

    def gather(self, value):
        """The values of all processes in order of rank."""
        if self.count == 1:
            return [value]
        from accelerate.utils import gather_object

        return gather_object([value])

    def add_gradients(self, parameters):
        """Replace the gradients of all processes by their sum.

        A parameter that no process has a gradient of keeps none, so that no decay moves it.
        """
        if self.count == 1:
            return
        from accelerate.utils import reduce

        trained = [p for p in parameters if p.requires_grad]
        flags = torch.tensor([float(p.grad is not None) for p in trained], device=trained[0].device)
        used = [p for p, flag in zip(trained, reduce(flags, "sum").tolist(), strict=True) if flag]
        own = [torch.zeros_like(p) if p.grad is None else p.grad for p in used]
        added = reduce(torch.cat([gradient.flatten() for gradient in own]), "sum")
        for parameter, gradient in zip(used, added.split([p.numel() for p in used]), strict=True):
            parameter.grad = gradient.view_as(parameter)

    def wait(self):
        """Go on when all are here."""
        self.total(0.0)


ALONE = Processes()


def join_processes(device):
    """The `Processes` of this one: those that `launch` started, else it alone.

    device : torch device that it computes on
    """
    if "LOCAL_RANK" not in os.environ:
        return ALONE
    from accelerate import PartialState

    state = PartialState(cpu=device.type == "cpu")
    return Processes(state.num_processes, state.process_index)


def launch(script, count):
    """Run a script in `count` processes of this node; the exit status.

    ModuleNotFoundError without accelerate.
    """
    if importlib.util.find_spec("accelerate") is None:
        raise ModuleNotFoundError(
            "training.processes needs accelerate; install it: pip install accelerate"
        )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node", str(count), str(script)]
    return subprocess.run(command, stdout=sys.stdout, stderr=sys.stderr, check=False).returncode
