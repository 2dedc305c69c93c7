"""Fetch the weights of one entry of section weights and convert them to safetensors."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from pathlib import Path

from mmlens.checkpoints import fetch_weights
from mmlens.files import write_json
from mmlens.table import DataError

report, params = Path(snakemake.output[0]), snakemake.params
name = snakemake.wildcards.weights
try:
    facts = fetch_weights(name, params.source, report.parent, Path(params.downloads) / name)
except DataError as error:
    sys.exit(str(error))
write_json(report, facts, indent=1)
