"""Kill -9 in the middle of training, run again: the same final tables."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import DEMO, ROOT, snakemake, tables

pytestmark = pytest.mark.slow


def test_killed_training_resumes_and_ends_in_the_same_tables(demo, tmp_path):
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--cores", "1", "--directory", str(tmp_path), "--configfile", str(DEMO)]
    running = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    states = tmp_path / "results/test/checkpoints/vilt_scratch"
    deadline = time.monotonic() + 1200
    try:
        while not list(states.glob(".seed0-*.pt")):
            assert running.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert not (states / "seed0/model.safetensors").exists()

    unlocked = snakemake("--unlock", "--configfile", DEMO, directory=tmp_path)
    assert unlocked.returncode == 0, unlocked.stderr
    done = snakemake("--cores", "2", "--configfile", DEMO, directory=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    log = (tmp_path / "results/test/logs/train_model/vilt_scratch/seed0.log").read_text()
    assert "resuming after epoch 1" in log
    assert tables(tmp_path / "results/test") == tables(demo)
