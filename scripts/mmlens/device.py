"""Which device a job computes on, and reproducible torch settings."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout


@contextmanager
def torch_device(setting, threads=1):
    """Yield the torch device for `setting` ("auto", "cpu" or "cuda"), with fixed threads.

    auto takes CUDA if the job can use a GPU, else the CPU. Where a scheduler assigns no GPU
    itself, visible GPUs are leased one per job by file locks, waiting while all are busy.

    Raises
    ------
    ValueError if "cuda" is asked for and there is no usable GPU.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
    print(f"device: {setting}, CUDA_VISIBLE_DEVICES: {visible}", flush=True)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    if setting == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "device: cuda is set, but torch sees no usable GPU; set device: auto or cpu"
        )
    if setting == "cpu" or not torch.cuda.is_available():
        yield torch.device("cpu")
    elif "LOCAL_RANK" in os.environ:  # one of several processes of a job, on a GPU each
        yield torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    elif "SLURM_JOB_ID" in os.environ or torch.cuda.device_count() == 1:
        yield torch.device("cuda", 0)
    else:
        with leased_gpu(torch.cuda.device_count()) as index:
            yield torch.device("cuda", index)


@contextmanager
def leased_gpu(count):
    """Index of a GPU that no other job of this user on this host holds."""
    folder = Path(tempfile.gettempdir()) / f"mmlens-gpus-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    locks = [FileLock(folder / f"{index}.lock") for index in range(count)]
    while True:
        for index, lock in enumerate(locks):
            try:
                lock.acquire(timeout=1)
            except Timeout:
                continue
            try:
                yield index
            finally:
                lock.release()
            return
