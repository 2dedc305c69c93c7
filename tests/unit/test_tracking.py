"""The MLflow store: what is logged, once, whoever is killed or writes at the same time."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys

import pandas as pd
import pytest
from conftest import ROOT

pytest.importorskip("mlflow", reason="no MLflow here; pip install -r requirements-tracking.txt")

from mlflow import MlflowClient
from mlflow_runs import contents

from mmlens.table import write_csv
from mmlens.tracking import Store, database_path, flat, live_log, measures, record_training

EFFECTIVE = {"model": {"name": "vilt", "width": 8}, "training": {"lr": 0.001}, "seed": 0}
FINAL = {**EFFECTIVE, "device": "cpu", "threshold": 0.5}
RECORDS = [
    {"epoch": epoch, "train_loss": 1 / epoch, "val_auroc": 0.5 + epoch / 70} for epoch in (1, 2, 3)
]
END = 1_700_000_000_000  # milliseconds since 1970


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """File of a store with nothing in it; to make its tables takes a second."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}")
    return path


@pytest.fixture
def uri(tmp_path, empty):
    """Address of a store of its own."""
    shutil.copy(empty, tmp_path)
    return f"sqlite:///{tmp_path}/mlflow.db"


def store_at(uri, experiment=None):
    return Store({"uri": uri, "experiment": experiment}, "demo")


def live(uri, records, *, resumed=False, end=None):
    """Log epochs as a training does; `end` is called before it is over."""
    settings = {"uri": uri, "experiment": None}
    with live_log(settings, "demo", "vilt", 0, EFFECTIVE, resumed=resumed) as on_epoch:
        for record in records:
            on_epoch(record)
        if end:
            end()


def record(uri, records, effective=FINAL):
    """Id of the run that a finished training has, completed from its files."""
    store = store_at(uri)
    path = database_path(uri).with_name("history.csv")
    write_csv(path, pd.DataFrame(records))
    run_id = record_training(store, "vilt", 0, effective, pd.read_csv(path), seconds=2.5, end=END)
    store.finish(run_id, END)
    return run_id


def trainings(uri):
    return [run for run in contents(uri) if run["tags"]["mmlens.kind"] == "training"]


def steps(run, metric):
    return [step for step, _ in run["metrics"][metric]]


def run_python(text, *arguments):
    """Start Python text that may import the library and the tests; a Popen."""
    path = os.pathsep.join(str(ROOT / name) for name in ("tests", "tests/unit", "scripts"))
    return subprocess.Popen(
        [sys.executable, "-c", text, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_training_is_one_run_below_that_of_the_workflow(uri):
    live(uri, RECORDS)
    run_id = record(uri, RECORDS)
    parent, child = contents(uri)
    assert (parent["name"], parent["parent"]) == ("demo", None)
    assert child["id"] == run_id
    assert child["parent"] == parent["id"]
    assert child["status"] == "FINISHED"
    assert child["params"] == {
        "model.name": "vilt",
        "model.width": "8",
        "training.lr": "0.001",
        "seed": "0",
        "device": "cpu",
        "threshold": "0.5",
    }
    assert child["metrics"] == {
        "train_loss": [(1, 1.0), (2, 0.5), (3, 0.333333)],
        "val_auroc": [(1, 0.514286), (2, 0.528571), (3, 0.542857)],
    }


def test_a_second_time_adds_nothing(uri):
    live(uri, RECORDS)
    record(uri, RECORDS)
    once = contents(uri)
    record(uri, RECORDS)
    assert contents(uri) == once


def test_files_alone_give_the_same_as_a_training_that_was_watched(uri, empty, tmp_path):
    live(uri, RECORDS)
    record(uri, RECORDS)
    shutil.copy(empty, tmp_path / "other.db")
    other = f"sqlite:///{tmp_path}/other.db"
    run_id = record(other, RECORDS)
    (watched,), (copied,) = trainings(uri), trainings(other)
    for key in ("name", "params", "metrics", "status"):
        assert watched[key] == copied[key]
    info = MlflowClient(other).get_run(run_id).info
    assert (info.start_time, info.end_time) == (END - 2500, END)


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError("out of memory"), "FAILED"), (SystemExit(143), "KILLED")]
)
def test_an_interrupted_training_goes_on_in_its_run(uri, error, status):
    def end():
        raise error

    with pytest.raises(type(error)):
        live(uri, RECORDS[:2], end=end)
    assert trainings(uri)[0]["status"] == status
    live(uri, RECORDS, resumed=True)  # the epochs before are told again
    record(uri, RECORDS)
    (run,) = trainings(uri)
    assert run["status"] == "FINISHED"
    assert steps(run, "train_loss") == [1, 2, 3]


def test_a_killed_training_goes_on_in_its_run(uri):
    training = run_python(
        "import os, signal, sys, test_tracking as t\n"
        "end = lambda: os.kill(os.getpid(), signal.SIGKILL)\n"
        "t.live(sys.argv[1], t.RECORDS[:2], end=end)\n",
        uri,
    )
    output, _ = training.communicate(timeout=300)
    assert training.returncode == -signal.SIGKILL, output
    (run,) = trainings(uri)
    assert run["status"] == "RUNNING"
    assert steps(run, "train_loss") == [1, 2]
    live(uri, RECORDS, resumed=True)
    record(uri, RECORDS)
    (run,) = trainings(uri)
    assert run["status"] == "FINISHED"
    assert steps(run, "val_auroc") == [1, 2, 3]


def test_another_training_is_another_run(uri):
    live(uri, RECORDS)
    first = record(uri, RECORDS)
    live(uri, RECORDS)  # from scratch, after an edit of the code, and not recorded
    assert len(trainings(uri)) == 2
    other = [{**row, "train_loss": 2 * row["train_loss"]} for row in RECORDS]
    second = record(uri, other)
    third = record(uri, other, {**FINAL, "training": {"lr": 0.1}})
    runs = {run["id"]: run for run in trainings(uri)}
    assert len(runs) == 4
    assert len({first, second, third}) == 3
    losses = [runs[run]["metrics"]["train_loss"][0] for run in (first, second, third)]
    assert losses == [(1, 1.0), (1, 2.0), (1, 2.0)]
    assert runs[third]["params"]["training.lr"] == "0.1"


def test_a_store_that_fails_does_not_end_the_training(uri, capsys):
    settings = {"uri": uri, "experiment": None}
    with live_log(settings, "demo", "vilt", 0, EFFECTIVE, resumed=False) as on_epoch:
        on_epoch(RECORDS[0])
        with sqlite3.connect(database_path(uri)) as database:
            database.execute("ALTER TABLE metrics RENAME TO lost")
        on_epoch(RECORDS[1])
        on_epoch(RECORDS[2])
    assert capsys.readouterr().out.count("tracking failed, track_model will log") == 1
    with sqlite3.connect(database_path(uri)) as database:
        database.execute("ALTER TABLE lost RENAME TO metrics")
    assert steps(trainings(uri)[0], "train_loss") == [1]
    record(uri, RECORDS)
    (run,) = trainings(uri)
    assert steps(run, "train_loss") == [1, 2, 3]


WRITER = """
import sys
from mmlens.tracking import live_log
uri, model = sys.argv[1:]
for seed in range(2):
    log = live_log({"uri": uri, "experiment": None}, "demo", model, seed, {"seed": seed},
                   resumed=False)
    with log as on_epoch:
        for epoch in range(1, 31):
            on_epoch({"epoch": epoch, "train_loss": epoch / 7, "val_auroc": 0.5})
"""


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    """From the first moment, when there is no file yet."""
    uri = f"sqlite:///{tmp_path}/results/mlflow.db"
    writers = [run_python(WRITER, uri, model) for model in ("one", "two", "three")]
    for writer in writers:
        output, _ = writer.communicate(timeout=300)
        assert writer.returncode == 0, output
        assert "tracking failed" not in output
    with sqlite3.connect(database_path(uri)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    parents = [run["id"] for run in contents(uri) if run["tags"]["mmlens.kind"] == "workflow"]
    runs = trainings(uri)
    assert len(runs) == 6
    assert [run["parent"] for run in runs] == 6 * parents
    for run in runs:
        assert steps(run, "train_loss") == steps(run, "val_auroc") == list(range(1, 31))


def test_the_experiment_has_the_name_of_the_run_or_its_own(uri):
    store_at(uri)
    store_at(uri, "comparison of losses")
    found = {e.name: e.artifact_location for e in MlflowClient(uri).search_experiments()}
    folder = database_path(uri).with_name("mlartifacts")
    assert found["demo"] == (folder / "demo").as_uri()
    assert found["comparison of losses"] == (folder / "comparison of losses").as_uri()


def test_parameters_have_names_and_texts_that_mlflow_takes(uri):
    path = "/" + "folder/" * 60 + "model.safetensors"
    effective = {"inputs": {path: "0" * 7000, "a//b": None}, "lr": 1e-4, "steps": [0, 1]}
    parameters = flat(effective)
    assert parameters["lr"] == "0.0001"
    assert parameters["steps"] == "[0, 1]"
    assert parameters["inputs.a__b"] == "null"
    run_id = record(uri, RECORDS, effective)
    assert MlflowClient(uri).get_run(run_id).data.params == parameters
    assert record(uri, RECORDS, effective) == run_id


def test_measures_are_the_finite_numbers(uri):
    nested = {
        "n": 3,
        "auroc": {"value": 0.9, "low": float("nan")},
        "device": "cpu",
        "is_best": True,
    }
    found = measures({**nested, "x=1": 2}, "test")
    assert found == {"test/n": 3.0, "test/auroc": 0.9, "test/x_1": 2.0}
    store = store_at(uri)
    parent = store.parent()
    store.log_values(parent, found)
    store.log_values(parent, {**found, "test/n": 4.0})
    (run,) = contents(uri)
    assert run["metrics"]["test/n"] == [(0, 3.0), (0, 4.0)]
    assert run["metrics"]["test/auroc"] == [(0, 0.9)]


def test_undefined_epochs_are_left_out(uri):
    undefined = [{**RECORDS[0], "val_auroc": float("nan")}, RECORDS[1]]
    live(uri, undefined)
    run_id = record(uri, undefined)
    (run,) = trainings(uri)
    assert run["id"] == run_id
    assert run["metrics"]["val_auroc"] == [(2, 0.528571)]
