"""Read a data set into the samples table; stop on anything that is wrong with it."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from mmlens.datasets import DATASETS
from mmlens.datasets.images import ImageGate
from mmlens.datasets.samples import build_samples, class_table
from mmlens.datasets.vocabulary import train_tokenizer
from mmlens.files import write_text
from mmlens.table import DataError, write_csv, write_parquet

settings = snakemake.params.dataset
reading = DATASETS.get(settings["kind"])(settings)
gate = ImageGate(snakemake.threads)
try:
    samples, truth, quality = build_samples(
        reading,
        sample=snakemake.params.sample,
        modalities=snakemake.params.modalities,
        splits=("train", "val", "test"),
        tasks=snakemake.params.tasks,
        trained=snakemake.params.trained,
        gate=gate,
    )
except DataError as error:
    sys.exit(str(error))
tokenizer = train_tokenizer(samples.loc[samples["split"] == "train", "text"], samples["text"])
print(quality.to_string(index=False))
write_csv(snakemake.output.samples, samples)
write_parquet(snakemake.output.truth, truth)
write_csv(snakemake.output.classes, class_table(reading))
write_csv(snakemake.output.images, gate.table())
write_csv(snakemake.output.quality, quality)
write_text(snakemake.output.tokenizer, tokenizer.to_str(pretty=True))
