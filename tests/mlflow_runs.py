"""What an MLflow store holds, for the tests of tracking; imported where MLflow is."""

from mlflow import MlflowClient

PARENT = "mlflow.parentRunId"


def contents(uri, system=False):
    """All runs of a store as dicts that can be compared, the oldest first.

    Keys: id, name, parent (an id or None), status, params, tags, and
    metrics as {name: [(step, value)] in the order of logging}, without the machine's unless
    `system`.
    """
    client = MlflowClient(uri)

    def metrics(run):
        names = [name for name in run.data.metrics if system or not name.startswith("system/")]
        histories = {name: client.get_metric_history(run.info.run_id, name) for name in names}
        return {name: [(m.step, m.value) for m in histories[name]] for name in names}

    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return [
        {
            "id": run.info.run_id,
            "name": run.info.run_name,
            "parent": run.data.tags.get(PARENT),
            "status": run.info.status,
            "params": run.data.params,
            "tags": run.data.tags,
            "metrics": metrics(run),
        }
        for run in client.search_runs(experiments, order_by=["attributes.created ASC"])
    ]


def artifacts(uri, run_id, folder=None):
    """Paths of all artifacts of a run, below `folder`."""
    client = MlflowClient(uri)
    paths = []
    for item in client.list_artifacts(run_id, folder):
        paths += artifacts(uri, run_id, item.path) if item.is_dir else [item.path]
    return sorted(paths)
