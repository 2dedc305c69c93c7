"""Runs in an MLflow store: one per model and seed, below one for the workflow run.

The files below results/ are what counts, the store holds a copy of them: what could not be logged
while a model was trained is logged from its files afterwards, and whatever is there already is not
logged again. Nothing but this module imports MLflow.
"""

import json
import math
import os
import re
import time
from contextlib import contextmanager
from numbers import Real
from pathlib import Path

from filelock import FileLock

# MLflow reports how it is used to its makers, unless it is told not to.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from mlflow.utils.validation import (
    MAX_ENTITY_KEY_LENGTH,
    MAX_METRICS_PER_BATCH,
    MAX_PARAM_VAL_LENGTH,
    MAX_PARAMS_TAGS_PER_BATCH,
)

from . import __version__

SYSTEM = "system/"  # prefix of MLflow's system metrics


class Store:
    """What one workflow run has in an MLflow store.

    Parameters
    ----------
    settings : the config's section tracking
    run : name of the workflow run; its experiment has the same name unless settings["experiment"]
        gives another
    """

    def __init__(self, settings, run):
        self.uri, self.run = settings["uri"], run
        with self.lock():
            self.client = MlflowClient(self.uri)
            self.experiment = self.find_experiment(settings["experiment"] or run)

    def lock(self):
        """Held while something is looked for and made if it is not there.

        MLflow itself does not keep two processes from creating the tables of one SQLite file.
        """
        path = database_path(self.uri)
        path = path or Path("results", self.run, "tracking", "store")
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path.with_name(f".{path.name}.lock"))

    def find_experiment(self, name):
        """Id of the experiment `name`, which is made if it is not there."""
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        path = database_path(self.uri)
        # Beside the database; a server knows itself where its artifacts belong.
        location = path.with_name("mlartifacts").absolute() / name if path else None
        return self.client.create_experiment(name, location and location.as_uri())

    def parent(self):
        """Id of the workflow run's own run, which is made if it is not there."""
        with self.lock():
            found = self.tagged(kind="workflow")
            if found:
                return found[0].info.run_id
            return self.create(self.run, {"kind": "workflow"})

    def tagged(self, **tags):
        """Runs of this workflow run with these tags, the newest first."""
        tags = {"run": self.run, **tags}
        return self.client.search_runs(
            [self.experiment],
            " and ".join(f"tags.`mmlens.{key}` = '{value}'" for key, value in tags.items()),
            order_by=["attributes.start_time DESC"],
        )

    def create(self, name, tags, start=None):
        """Id of a new run. start : milliseconds since 1970, now by default"""
        tags = {"run": self.run, "version": __version__, **tags}
        tags = {f"mmlens.{key}": str(value) for key, value in tags.items()}
        return self.client.create_run(self.experiment, start, tags, name).info.run_id

    def training(self, model, seed, parameters, is_same, start=None):
        """Id of the newest run of this model and seed that is the same training, or of a new one.

        parameters : {name: text}, see `flat`; a run with others is another training
        is_same : function from an MLflow run with no other parameters to whether it is this one
        start : when the training started, for a new run
        """
        parent = self.parent()
        with self.lock():
            found = [
                run
                for run in self.tagged(kind="training", model=model, seed=seed)
                if run.data.params.items() <= parameters.items() and is_same(run)
            ]
            tags = {"kind": "training", "model": model, "seed": seed}
            run_id = (
                found[0].info.run_id if found else self.create(f"{model} seed{seed}", tags, start)
            )
        self.client.set_tag(run_id, MLFLOW_PARENT_RUN_ID, parent)
        items = [Param(key, value) for key, value in parameters.items()]
        for part in batches(items, MAX_PARAMS_TAGS_PER_BATCH):
            self.client.log_batch(run_id, params=part)
        return run_id

    def steps(self, run_id, metric):
        """{step: value} of a metric of a run."""
        return {m.step: m.value for m in self.client.get_metric_history(run_id, metric)}

    def log_epoch(self, run_id, record):
        """Log one row of the history of a training: {column: value} with the column epoch."""
        self.log(run_id, [(column, value, record["epoch"]) for column, value in measured(record)])

    def log_values(self, run_id, values):
        """Log {metric: value} at step 0 as far as the run does not have the same values already."""
        known = self.client.get_run(run_id).data.metrics
        new = [(key, value, 0) for key, value in values.items() if known.get(key) != value]
        self.log(run_id, new)

    def log(self, run_id, points):
        """Log points (metric, value, step)."""
        now = int(1000 * time.time())
        items = [Metric(key, value, now, step) for key, value, step in points]
        for part in batches(items, MAX_METRICS_PER_BATCH):
            self.client.log_batch(run_id, metrics=part)

    def log_files(self, run_id, files):
        """Copy files to the artifacts of a run. files : {path: folder of the artifacts}"""
        for path, folder in files.items():
            self.client.log_artifact(run_id, str(path), folder)

    def finish(self, run_id, end=None):
        """Mark a run as finished unless it is. end : milliseconds since 1970, now by default"""
        if self.client.get_run(run_id).info.status != "FINISHED":
            self.client.set_terminated(run_id, "FINISHED", end)


@contextmanager
def live_log(settings, run, model, seed, effective, *, resumed):
    """Log a training while it runs; yields a function that takes the record of each epoch.

    The machine is watched meanwhile (MLflow's system metrics: every 10 seconds its CPUs, memory,
    disks, network and, with nvidia-ml-py, GPUs; not this job's share of them).

    A store that fails after the start does not end the training: that is printed, and
    `record_training` logs the rest.

    Parameters
    ----------
    settings : the config's section tracking
    run, model, seed : of the training
    effective : nested dict of all that the training depends on
    resumed : whether it goes on from a saved state; then it goes on in the same MLflow run
    """
    store = Store(settings, run)
    parameters = flat(effective)
    run_id = store.training(
        model, seed, parameters, lambda found: resumed or not trained_metrics(found)
    )
    store.client.update_run(run_id, status="RUNNING")
    known = {
        step
        for metric in trained_metrics(store.client.get_run(run_id))
        for step in store.steps(run_id, metric)
    }
    monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=store.uri)
    failed = []

    def on_epoch(record):
        # After an interruption all epochs before it are told again.
        if record["epoch"] not in known and not failed:
            with reported(failed):
                store.log_epoch(run_id, record)

    monitor.start()
    status = "FAILED"
    try:
        yield on_epoch
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):  # also after SIGTERM
        status = "KILLED"
        raise
    finally:
        monitor.finish()
        with reported(failed):
            store.client.set_terminated(run_id, status)


@contextmanager
def reported(failed):
    """Print an error of the store and append it to `failed`."""
    try:
        yield
    except MlflowException as error:
        failed.append(error)
        print(f"tracking failed, track_model will log what is missing: {error}", flush=True)


def record_training(store, model, seed, effective, history, *, seconds, end):
    """Id of the run of a training that is over, with its parameters and every epoch.

    A run of which a part was logged is completed, one with other epochs is another training.

    Parameters
    ----------
    effective : nested dict, the checkpoint's config.yaml
    history : DataFrame, the checkpoint's history.csv
    seconds : duration of the job
    end : when it ended, milliseconds since 1970
    """
    records = history.to_dict("records")
    written = {column: {} for column in history.columns if column != "epoch"}
    for record in records:
        for column, value in measured(record):
            written[column][record["epoch"]] = value

    def is_same(run):
        return all(
            store.steps(run.info.run_id, column).items() <= steps.items()
            for column, steps in written.items()
        )

    start = end - int(1000 * seconds)
    run_id = store.training(model, seed, flat(effective), is_same, start)
    for column, steps in written.items():
        known = store.steps(run_id, column)
        store.log(run_id, [(column, steps[step], step) for step in steps if step not in known])
    return run_id


def database_path(uri):
    """Path of the database file of a URI sqlite:///<path>, None for a server."""
    prefix = "sqlite:///"
    return Path(uri.removeprefix(prefix).split("?")[0]) if uri.startswith(prefix) else None


def flat(value, prefix=""):
    """{dotted name: text} of a nested dict, as MLflow's parameters.

    Names keep their last characters and texts their first, as many as MLflow takes; characters
    that it refuses in a name become _.
    """
    result = {}
    for key, part in value.items():
        name = f"{prefix}{clean(key)}"
        if isinstance(part, dict):
            result |= flat(part, f"{name}.")
        else:
            text = part if isinstance(part, str) else json.dumps(part)
            result[name[-MAX_ENTITY_KEY_LENGTH:]] = text[:MAX_PARAM_VAL_LENGTH]
    return result


def measures(value, prefix):
    """{name/of/value: number} of the finite numbers in a nested dict, as MLflow's metrics.

    {"value": 0.9, "low": 0.8} at the name m becomes m and m/low.
    """
    result = {}
    for key, part in value.items():
        name = prefix if key == "value" else f"{prefix}/{clean(key)}"
        if isinstance(part, dict):
            result |= measures(part, name)
        elif is_finite(part):
            result[name] = float(part)
    return result


def clean(name):
    """A name with _ for characters that MLflow refuses, or takes for folders."""
    return re.sub(r"[^\w. -]", "_", str(name))


def is_finite(value):
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def measured(record):
    """(column, value) of the metrics in a row of the history, as they stand in history.csv."""
    return [
        (column, float(f"{value:.6g}"))
        for column, value in record.items()
        if column != "epoch" and is_finite(value)
    ]


def trained_metrics(run):
    """Metrics of an MLflow run that are not about the machine."""
    return [name for name in run.data.metrics if not name.startswith(SYSTEM)]


def batches(items, size):
    """`items` in lists of at most `size`."""
    return [items[start : start + size] for start in range(0, len(items), size)]
