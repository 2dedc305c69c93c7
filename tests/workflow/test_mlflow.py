"""A tracked run by the real command, killed once, and `mlflow ui` on its store."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.util import find_spec

import pandas as pd
import pytest
import requests
import yaml
from conftest import DEMO, ROOT, snakemake, tables
from test_demo import job_counts

WITHOUT = find_spec("mlflow") is None
needs_mlflow = pytest.mark.skipif(
    WITHOUT, reason="no MLflow here; pip install -r requirements-tracking.txt"
)
URI = "sqlite:///results/mlflow.db"
NOTHING = "Nothing to be done"
ENVIRONMENT = {
    **os.environ,
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "0.2",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # workers that only slow the server's start
}


def arguments(directory, **tracking):
    """Of Snakemake, for the tracked demo run in a folder."""
    path = directory / "tracking.yaml"
    path.write_text(yaml.safe_dump({"tracking": {"mlflow": True, **tracking}}))
    return ("--cores", "2", "--configfile", DEMO, path)


def run(directory, *more):
    done = snakemake(*arguments(directory), *more, directory=directory, environment=ENVIRONMENT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """Folder of a tracked run that was killed while a model was trained, and run again."""
    directory = tmp_path_factory.mktemp("tracked")
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile"]
    command += ["--directory", directory, *arguments(directory)]
    running = subprocess.Popen(
        list(map(str, command)), cwd=ROOT, env=ENVIRONMENT, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    states = directory / "results/test/checkpoints/vilt_scratch"
    deadline = time.monotonic() + 300
    while not list(states.glob(".seed0-*.pt")):
        assert running.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    run(directory, "--unlock")
    run(directory)
    log = (directory / "results/test/logs/train_model/vilt_scratch/seed0.log").read_text()
    assert "resuming after epoch" in log
    return directory


def stored(directory, **options):
    """What the store in a folder holds."""
    from mlflow_runs import contents

    return contents(f"sqlite:///{directory}/results/mlflow.db", **options)


@pytest.mark.skipif(not WITHOUT, reason="MLflow is installed")
def test_tracking_without_mlflow_is_told_before_anything_runs(tmp_path):
    done = snakemake(*arguments(tmp_path), "-n", directory=tmp_path)
    assert done.returncode != 0
    shown = done.stdout + done.stderr
    assert "tracking.mlflow: found true, but MLflow is not installed" in shown
    assert "requirements-tracking.txt" in shown


@pytest.mark.slow
@needs_mlflow
def test_every_model_is_a_run_below_that_of_the_workflow(tracked):
    from mlflow_runs import artifacts

    parent, *children = stored(tracked, system=True)
    assert (parent["name"], parent["status"]) == ("test", "FINISHED")
    assert {run["name"] for run in children} == {"text_only seed0", "vilt_scratch seed0"}
    assert len(children) == 2
    for run in children:
        assert run["parent"] == parent["id"]
        assert run["status"] == "FINISHED"
        model = run["tags"]["mmlens.model"]
        folder = tracked / f"results/test/checkpoints/{model}/seed0"
        history = pd.read_csv(folder / "history.csv")
        for column in ("train_loss", "val_loss", "val_auroc", "val_accuracy"):
            expected = list(zip(history["epoch"], history[column], strict=True))
            assert run["metrics"][column] == expected
        recipe = yaml.safe_load((folder / "config.yaml").read_text())["training"]
        for key in ("batch_size", "epochs"):
            assert run["params"][f"training.{key}"] == str(recipe[key])
        assert run["params"]["model.name"] == model
        metrics = json.loads((tracked / f"results/test/metrics/{model}/seed0.json").read_text())
        auroc = metrics["subsets"]["all"]["auroc"]["value"]
        assert run["metrics"]["test/auroc"] == [(0, auroc)]
        assert parent["metrics"][f"test/{model}/auroc"] == [(0, pytest.approx(auroc, rel=1e-5))]
        assert run["metrics"]["cost/parameters"][0][1] > 0
        assert run["metrics"]["job/seconds"][0][1] > 0
    (vilt,) = [run for run in children if run["tags"]["mmlens.model"] == "vilt_scratch"]
    assert vilt["metrics"]["system/cpu_utilization_percentage"]
    assert vilt["metrics"]["system/system_memory_usage_megabytes"][0][1] > 0

    uri = f"sqlite:///{tracked}/results/mlflow.db"
    kept = artifacts(uri, vilt["id"])
    assert {"checkpoint/model.safetensors", "checkpoint/history.csv"} <= set(kept)
    weights = "vilt_scratch/seed0/model.safetensors"
    copies = list((tracked / "results/mlartifacts").rglob(f"{vilt['id']}/**/model.safetensors"))
    assert [path.read_bytes() for path in copies] == [
        (tracked / "results/test/checkpoints" / weights).read_bytes()
    ]
    kept = set(artifacts(uri, parent["id"]))
    assert {f"tables/{path.name}" for path in (tracked / "results/test/tables").iterdir()} <= kept
    figures = (tracked / "results/test").glob("figures/*/*.*")
    assert {str(path.relative_to(tracked / "results/test")) for path in figures} <= kept
    assert {"report/index.html", "report/report.md", "config.yaml"} <= kept


@pytest.mark.slow
@needs_mlflow
def test_tracking_changes_no_table_and_no_report(tracked, demo):
    assert tables(tracked / "results/test") == tables(demo)
    assert "tracking" not in (tracked / "results/test/report/report.md").read_text()


@pytest.mark.slow
@needs_mlflow
def test_a_second_run_adds_nothing(tracked):
    before = stored(tracked, system=True)
    assert NOTHING in run(tracked)
    assert stored(tracked, system=True) == before
    run(tracked, "--forcerun", "track_model", "track_run")
    assert stored(tracked, system=True) == before


@pytest.mark.slow
@needs_mlflow
def test_tracking_may_be_switched_on_and_off_later(tracked, demo, tmp_path_factory):
    off = snakemake("--cores", "1", "-n", "--configfile", DEMO, directory=tracked)
    assert NOTHING in off.stdout + off.stderr
    directory = tmp_path_factory.mktemp("later")  # beside the other, since paths are relative
    shutil.copytree(demo.parents[1], directory, dirs_exist_ok=True)
    planned = snakemake(*arguments(directory), "-n", directory=directory)
    counts = job_counts(planned)
    assert (counts["track_model"], counts["track_run"]) == ("2", "1")
    assert counts["total"] == "4"  # with all
    run(directory)
    later = {run["name"]: run for run in stored(directory)}
    for live in stored(tracked)[1:]:
        assert later[live["name"]]["status"] == "FINISHED"
        for metric in ("train_loss", "val_auroc", "test/auroc"):
            assert later[live["name"]]["metrics"][metric] == live["metrics"][metric]


@contextmanager
def mlflow_ui(directory, uri, log):
    """Address of `mlflow ui`, started in a folder; it is gone when the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--workers", "1"]
    with open(log, "w") as output:
        server = subprocess.Popen(
            [*command, "--port", str(port)], cwd=directory, env=ENVIRONMENT,
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while not answers(f"{address}/health"):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def answers(url):
    try:
        return requests.get(url, timeout=5).ok
    except requests.ConnectionError:
        return False


@pytest.mark.slow
@needs_mlflow
def test_mlflow_ui_shows_the_runs(tracked, tmp_path):
    parent, *children = stored(tracked)
    with mlflow_ui(tracked, URI, tmp_path / "ui.log") as address:
        page = requests.get(address, timeout=60)
        assert page.ok
        assert "<title>MLflow</title>" in page.text
        api = f"{address}/api/2.0/mlflow"
        found = requests.get(
            f"{api}/experiments/get-by-name", {"experiment_name": "test"}, timeout=60
        ).json()["experiment"]
        query = {
            "experiment_ids": [found["experiment_id"]],
            "filter": f"tags.`mlflow.parentRunId` = '{parent['id']}'",
        }
        runs = requests.post(f"{api}/runs/search", json=query, timeout=60).json()["runs"]
        assert {run["info"]["run_id"] for run in runs} == {run["id"] for run in children}
        history = requests.get(
            f"{api}/metrics/get-history",
            {"run_id": runs[0]["info"]["run_id"], "metric_key": "val_auroc"},
            timeout=60,
        ).json()["metrics"]
        assert [point["step"] for point in history] == list(range(1, len(history) + 1))
        table = requests.get(
            f"{address}/get-artifact",
            {"run_id": parent["id"], "path": "tables/comparison.csv"},
            timeout=60,
        )
        assert table.content == (tracked / "results/test/tables/comparison.csv").read_bytes()


@pytest.mark.slow
@needs_mlflow
def test_a_server_takes_the_place_of_the_file(tracked, tmp_path):
    with mlflow_ui(tmp_path, "sqlite:///server.db", tmp_path / "ui.log") as address:
        done = snakemake(
            *arguments(tracked, uri=address), directory=tracked, environment=ENVIRONMENT
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "rule train_model" not in done.stdout + done.stderr
        from mlflow_runs import artifacts, contents

        served = {run["name"]: run for run in contents(address)}
        for run in stored(tracked):
            for key in ("params", "metrics", "status"):
                assert served[run["name"]][key] == run[key]
        assert "figures/roc_curves/all_models.png" in artifacts(address, served["test"]["id"])
