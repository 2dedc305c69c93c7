"""Log what all models of a run have in common in MLflow: comparison, tables, figures, report."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from pathlib import Path

import pandas as pd
import yaml

from mmlens.files import write_json
from mmlens.tracking import Store, measures

inputs, config = snakemake.input, snakemake.params.config
store = Store(snakemake.params.tracking, config["run"])
run_id = store.parent()
comparison = pd.read_csv(inputs.comparison, dtype={"seeds": str})
# One row per seed; a row with the mean of all is there for some numbers of seeds only.
chosen = (comparison["subset"] == "all") & comparison["seeds"].isin(map(str, config["seeds"]))
values = comparison[chosen].filter(regex="^(?!.*_(low|high)$)")
means = values.groupby("model").mean(numeric_only=True).to_dict("index")
store.log_values(run_id, measures(means, "test"))
files = dict.fromkeys([inputs.comparison, *inputs.tables], "tables")
files |= dict.fromkeys(inputs.report, "report")
for path in inputs.figures:
    files[path] = f"figures/{Path(path).parent.name}"
store.log_files(run_id, files)
store.client.log_text(run_id, yaml.safe_dump(config), "config.yaml")
store.finish(run_id)
write_json(snakemake.output[0], {"experiment_id": store.experiment, "run_id": run_id})
