"""The workflow on a real SLURM cluster of one host, through profiles/slurm."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import DEMO, snakemake, tables

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
# Jobs of the demo that ask for a GPU, by their rules.
GPU_RULES = {"pretrain_stem": 1, "train_model": 2, "explain_model": 2}


def test_profile_plans_the_same_jobs(tmp_path):
    planned = snakemake(
        "--profile", "profiles/slurm", "-n", "--configfile", DEMO, directory=tmp_path
    )
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert re.search(r"total\s+22\b", planned.stdout + planned.stderr)


@pytest.fixture
def cluster(tmp_path_factory):
    """Environment variables of a running throw-away cluster, and its folder."""
    missing = [name for name in ("slurmctld", "munged") if not shutil.which(name, path=sbin_path())]
    if missing:
        pytest.skip(f"no {' and no '.join(missing)} here; install slurm-wlm and munge")
    folder = tmp_path_factory.mktemp("slurm", numbered=True)
    short = Path(os.environ.get("TMPDIR", "/tmp")) / f"mmlens-slurm-{os.getpid()}"
    environment = {**os.environ, "SLURM_TEST_DIR": str(short)}
    subprocess.run(["bash", HERE / "start_slurm.sh"], env=environment, check=True, timeout=120)
    environment |= {
        "PATH": f"{short}/bin:{environment['PATH']}",
        "SLURM_CONF": f"{short}/etc/slurm.conf",
    }
    yield environment, short, folder
    subprocess.run(["bash", HERE / "stop_slurm.sh", "--wipe"], env=environment, check=True)


def sbin_path():
    return os.environ["PATH"] + ":/usr/sbin:/sbin"


def completed_jobs(log):
    """One dict per line of SLURM's own completion log."""
    return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in Path(log).read_text().splitlines()]


def gpu_logs(folder):
    """Logs of the jobs of the rules that ask for a GPU."""
    paths = [path for rule in GPU_RULES for path in folder.glob(f"{rule}*/**/*.log")]
    paths += folder.glob("pretrain_stem.log")
    assert len(paths) == sum(GPU_RULES.values())
    return paths


def test_cluster_run_equals_the_local_run(cluster, demo):
    environment, slurm, folder = cluster
    done = snakemake(
        "--profile",
        "profiles/slurm",
        "--configfile",
        DEMO,
        directory=folder,
        environment=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr

    assert tables(folder / "results/test") == tables(demo)

    jobs = completed_jobs(slurm / "log/jobcomp.log")
    assert jobs
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
    on_gpu = [job for job in jobs if job["Partition"] == "gpu"]
    assert len(on_gpu) == sum(GPU_RULES.values())
    assert {job["NodeList"] for job in on_gpu} == {"g1"}
    # This log names no GPUs without an accounting database; what a job was given, it wrote down.
    for path in gpu_logs(folder / "results/test/logs"):
        assert re.search(r"CUDA_VISIBLE_DEVICES: [01]$", path.read_text(), re.MULTILINE), path
    on_cpu = [job for job in jobs if job["Partition"] == "cpu"]
    # Every rule but `all`, which Snakemake runs itself, is a SLURM job.
    assert len(on_gpu) + len(on_cpu) == 21
    assert {job["NodeList"] for job in on_cpu} <= {"c1", "c2"}
