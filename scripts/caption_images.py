"""Caption all images of the run, as far as none are cached, and join captions to the texts."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from mmlens.datasets.vocabulary import train_tokenizer
from mmlens.device import torch_device
from mmlens.features.captions import Captions, joined
from mmlens.features.extract import extract
from mmlens.features.store import gather
from mmlens.files import write_text
from mmlens.table import DataError, read_samples, write_csv, write_parquet

params, settings = snakemake.params, snakemake.params.captions
samples = read_samples(snakemake.input.samples)
try:
    with torch_device(params.device, params.torch_threads) as device:
        captioner = Captions(settings["model"], settings["length"])
        index, facts = extract(
            samples, captioner, threads=snakemake.threads, device=device, **params.features
        )
except DataError as error:
    sys.exit(str(error))
index["caption"] = gather(
    facts["folder"], index["shard"].to_numpy(), index["row"].to_numpy(), "caption"
).astype(object)
write_parquet(snakemake.output.captions, index[["image", "image_sha256", "caption"]])
captions = samples["image"].map(index.set_index("image")["caption"]).fillna("")
samples["text"] = joined(samples["text"], captions, settings["separator"])
tokenizer = train_tokenizer(samples.loc[samples["split"] == "train", "text"], samples["text"])
write_csv(snakemake.output.samples, samples)
write_text(snakemake.output.tokenizer, tokenizer.to_str(pretty=True))
