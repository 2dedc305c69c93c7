"""Compute the features of one extractor for all images of the run, as far as none are cached."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from mmlens.device import torch_device
from mmlens.features import get_extractor
from mmlens.features.extract import extract
from mmlens.files import write_json
from mmlens.table import DataError, read_samples, write_parquet

params = snakemake.params
samples = read_samples(snakemake.input.samples)
try:
    with torch_device(params.device, params.torch_threads) as device:
        index, facts = extract(
            samples,
            get_extractor(snakemake.wildcards.extractor, **params.settings),
            threads=snakemake.threads,
            device=device,
            **params.features,
        )
except DataError as error:
    sys.exit(str(error))
write_parquet(snakemake.output.index, index)
write_json(snakemake.output.facts, facts, indent=1)
