"""Choice of the device, and the lease of GPUs between jobs of one host."""

import multiprocessing
import tempfile

import pytest
import torch

from mmlens.device import leased_gpu, torch_device


def test_cpu_and_threads():
    with torch_device("cpu", threads=1) as device:
        assert device.type == "cpu"
        assert torch.get_num_threads() == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_auto_takes_the_cpu_and_cuda_is_an_error():
    with torch_device("auto") as device:
        assert device.type == "cpu"
    with pytest.raises(ValueError, match="device: auto or cpu"), torch_device("cuda"):
        pass


def hold(folder, held, release):
    tempfile.tempdir = folder
    with leased_gpu(2) as index:
        held.put(index)
        release.wait(60)


def test_jobs_lease_different_gpus_and_wait_for_a_free_one(tmp_path):
    context = multiprocessing.get_context("fork")
    held = context.Queue()
    releases = [context.Event() for _ in range(3)]
    jobs = [context.Process(target=hold, args=(str(tmp_path), held, event)) for event in releases]
    jobs[0].start()
    first = held.get(timeout=60)
    jobs[1].start()
    second = held.get(timeout=60)
    assert {first, second} == {0, 1}
    jobs[2].start()
    jobs[2].join(timeout=3)
    assert jobs[2].is_alive()  # both GPUs are taken
    assert held.empty()
    releases[0].set()
    assert held.get(timeout=60) == first
    for event in releases:
        event.set()
    for job in jobs:
        job.join(timeout=60)
        assert job.exitcode == 0
