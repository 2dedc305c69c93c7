"""Write a generated data set."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from mmlens.datasets import GENERATORS

settings = dict(snakemake.params.dataset)
generate = GENERATORS.get(settings.pop("kind"))
generate(settings.pop("root"), **settings)
