"""The state of a training: what an interruption must not lose, and the files that keep it."""

import os
import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..files import atomic
from .processes import ALONE, Processes


@dataclass
class TrainingState:
    """Everything that changes while a model is trained.

    path : file of the state; the best weights lie beside it, in files of their own, so that saving
        in the middle of an epoch does not write them again
    average : AveragedModel, or None
    epoch : epochs that are done; batch : batches that are done of the one after them;
    total : sum of the losses of the samples in these; history : records of the epochs;
    best : {"score", "epoch"} of the best epoch, or None;
    random : states of the random generators after `batch`, of every process, or None
    processes : Processes, of which the first writes
    """

    path: Path
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    average: torch.nn.Module | None = None
    processes: Processes = ALONE
    epoch: int = 0
    batch: int = 0
    total: float = 0.0
    history: list = field(default_factory=list)
    best: dict | None = None
    random: dict | None = None

    PARTS = ("model", "optimizer", "schedule", "average")
    FACTS = ("epoch", "batch", "total", "history", "best", "random")

    @property
    def evaluated(self):
        """The model whose weights are validated and kept: the averaged one, if there is one."""
        return self.model if self.average is None else self.average.module

    def resume(self, device):
        """Take up the state of the file, if there is one."""
        if not self.path.is_file():
            return
        saved = torch.load(self.path, map_location=device, weights_only=True)
        for name in self.PARTS:
            if getattr(self, name) is not None:
                getattr(self, name).load_state_dict(saved[name])
        for name in self.FACTS:
            setattr(self, name, saved[name])
        place = f"epoch {self.epoch}" + (f" and batch {self.batch}" if self.batch else "")
        print(f"resuming after {place} from {self.path}", flush=True)

    def restore_random(self, generator):
        """Set all random generators to where they were when an interrupted epoch was saved."""
        if self.random is None:
            return
        own = self.random[self.processes.rank]
        generator.set_state(own["generator"].cpu())
        torch.set_rng_state(own["torch"].cpu())
        torch.cuda.set_rng_state_all([state.cpu() for state in own["cuda"]])

    def save(self, generator=None):
        """Write the file; in the middle of an epoch with the state of all random generators."""
        self.random = generator and self.processes.gather(random_states(generator))
        if not self.processes.is_first:
            return
        parts = {name: getattr(self, name) for name in self.PARTS}
        state = {name: part and part.state_dict() for name, part in parts.items()}
        write(self.path, {**state, **{name: getattr(self, name) for name in self.FACTS}})

    def end_epoch(self, record, score):
        """Count an epoch as done, with its weights if they are the best so far, and save."""
        self.epoch, self.batch, self.total = self.epoch + 1, 0, 0.0
        self.history.append(record)
        if self.best is None or score > self.best["score"]:
            self.best = {"score": score, "epoch": self.epoch}
            if self.processes.is_first:
                # Before the state that names it; the last best one stays until then.
                write(self.best_path(), self.evaluated.state_dict())
        self.save()
        if self.processes.is_first:
            for path in set(best_files(self.path)) - {self.best_path()}:
                path.unlink()

    def best_path(self):
        return self.path.with_name(f"{self.path.name}.best{self.best['epoch']}")

    def load_best(self, device):
        """Give the model the weights of the best epoch."""
        self.processes.wait()
        weights = torch.load(self.best_path(), map_location=device, weights_only=True)
        self.model.load_state_dict(weights)


def random_states(generator):
    """States of a generator and of torch's own."""
    return {
        "generator": generator.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def best_files(path):
    """Files of best weights that belong to the state file `path`."""
    return list(path.parent.glob(f"{path.name}.best*"))


def remove_state(path):
    """Delete the files of a training that has ended and whose weights are saved elsewhere."""
    unfinished = path.parent.glob(f".{path.name}*.tmp")  # of processes that were killed
    for file in (path, *best_files(path), *unfinished):
        file.unlink(missing_ok=True)


def write(path, content):
    """Write a torch file that is whole on the disk before it has its name, also if a node fails."""
    with atomic(path) as temporary, open(temporary, "wb") as handle:
        torch.save(content, handle)
        handle.flush()
        os.fsync(handle.fileno())


@contextmanager
def postponed_sigterm():
    """Yield a function that tells whether SIGTERM has come; it ends nothing by itself meanwhile."""
    received = threading.Event()
    previous = signal.signal(signal.SIGTERM, lambda *_: received.set())
    try:
        yield received.is_set
    finally:
        signal.signal(signal.SIGTERM, previous)
