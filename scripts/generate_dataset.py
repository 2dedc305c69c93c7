"""Write the generated data set in the native formats of the real ones."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from mmlens.datasets.generated import generate

settings = dict(snakemake.params.dataset)
settings.pop("kind")
generate(settings.pop("root"), **settings)
