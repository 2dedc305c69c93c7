"""Log one model and seed in MLflow: parameters, epochs, metrics, cost and checkpoint."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

import json
from pathlib import Path

import pandas as pd
import yaml

from mmlens.files import write_json
from mmlens.report.cost import collect
from mmlens.tracking import Store, measures, record_training

inputs, wildcards = snakemake.input, snakemake.wildcards
settings = snakemake.params.tracking
store = Store(settings, wildcards.run)
config = Path(inputs.config)
cost = json.loads(Path(inputs.cost).read_text(encoding="utf-8"))
metrics = json.loads(Path(inputs.metrics).read_text(encoding="utf-8"))
job = collect([inputs.benchmark]).iloc[0]
end = int(1000 * config.stat().st_mtime)
run_id = record_training(
    store,
    wildcards.model,
    wildcards.seed,
    yaml.safe_load(config.read_text(encoding="utf-8")),
    pd.read_csv(inputs.history),
    seconds=job["seconds"],
    end=end,
)
store.log_values(
    run_id,
    {
        **measures(metrics["subsets"]["all"], metrics["split"]),
        **measures(cost, "cost"),
        **measures(job.to_dict(), "job"),
    },
)
checkpoint = [path for path in inputs.files if Path(path).parent == config.parent]
if not settings["checkpoints"]:
    checkpoint = [path for path in checkpoint if not path.endswith(".safetensors")]
store.log_files(run_id, {**dict.fromkeys(checkpoint, "checkpoint"), inputs.metrics: "metrics"})
store.finish(run_id, end)
write_json(snakemake.output[0], {"experiment_id": store.experiment, "run_id": run_id})
