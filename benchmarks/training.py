"""Speed of the trainer against the plain loop, on texts of very different length.

    python benchmarks/training.py [--samples 384] [--repeats 3]

writes benchmarks/results/training.json. The plain loop decodes the images of each batch, pads every
text to 128 tokens, runs attention written out, and a frozen encoder anew for every batch; model,
optimiser and batch size are the same, and so are the regions of vilbert, which both sides read from
the cache. Texts have 14 words in the median and up to 126; models start from scratch, but for the
frozen encoder, which has the size of CLIP ViT-B/32 and reads up to 77 words. An epoch of both sides
is measured in one run, in pairs; the ratio is the median of the pairs, its range the least and the
greatest. Seconds are CPU time on one thread, so that other work on the machine does not count. Peak
memory is that of a process of its own for each side, of which `start_mb` were there before the
first step. `seconds_once` is what the cached features cost before; a case that finds those of an
earlier one pays nothing.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import yaml
from measuring import in_own_process, record, timed
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, PreTrainedTokenizerFast

from mmlens.config_schema import fill_defaults
from mmlens.datasets import DATASETS
from mmlens.datasets.generated import generate
from mmlens.datasets.samples import build_samples
from mmlens.datasets.vocabulary import train_tokenizer
from mmlens.features import get_extractor
from mmlens.features.extract import extract
from mmlens.features.normalise import normalised
from mmlens.features.reader import FeatureReader
from mmlens.files import write_json
from mmlens.models import build_model, input_spec
from mmlens.models.inputs import Batch, EncodedSamples, read_pixels
from mmlens.table import read_samples, write_csv, write_parquet
from mmlens.training.batches import epoch_batches
from mmlens.training.frozen import trained_part
from mmlens.training.loop import train_epoch
from mmlens.training.losses import classification_loss
from mmlens.training.optimisation import build_optimizer, build_schedule
from mmlens.training.state import TrainingState

ROOT = Path(__file__).resolve().parents[1]
THREADS = 1
WORDS, MEDIAN, SPREAD = 126, 14, 0.7  # longest text, median, sd of the logarithm
SIDE = 96  # of the images in pixels
VOCABULARY = 2000
# Model, what its features come from, width of its layers; a perceptron on CLIP has its own.
CASES = [
    ("text_only", None, 128),
    ("vilt_scratch", None, 128),
    ("vilbert", "pixels", 128),
    ("blip_frozen", "clip", 128),
    ("blip_frozen", "clip", 32),
    ("clip_mlp", None, 500),
]


def write_samples(folder, count):
    """Generated images with random texts, and their tokenizer."""
    quads = {"train": count // 4, "val": 2, "test": 2}
    generate(folder, quads=quads)
    samples, _, _ = build_samples(DATASETS.get("generated")({"root": str(folder), "quads": quads}))
    generator = np.random.default_rng(0)
    lengths = np.exp(generator.normal(np.log(MEDIAN), SPREAD, len(samples))).clip(2, WORDS)
    lengths[0] = WORDS
    samples["text"] = [
        " ".join(f"word{k}" for k in generator.integers(0, VOCABULARY, int(n))) for n in lengths
    ]
    # Samples one by one, as in most data: quads of texts of any length cannot be sorted.
    samples = samples.drop(columns="quad_id")
    train_tokenizer(samples["text"], samples["text"]).save(str(folder / "tokenizer.json"))
    write_csv(folder / "samples.csv", samples)
    save_encoder(folder / "encoder")


def save_encoder(folder):
    """CLIP ViT-B/32 with random weights and a word for a token."""
    start, end = VOCABULARY, VOCABULARY + 1
    vocabulary = {f"word{k}": k for k in range(VOCABULARY)} | {"<start>": start, "<end>": end}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<end>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    special = [("<start>", start), ("<end>", end)]
    tokenizer.post_processor = TemplateProcessing("<start> $A <end>", special_tokens=special)
    names = {"bos_token": "<start>", "eos_token": "<end>", "pad_token": "<end>"}
    words = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=77, **names)
    words.save_pretrained(folder)
    torch.manual_seed(0)
    ids = {"vocab_size": len(vocabulary), "bos_token_id": start, "eos_token_id": end}
    CLIPModel(CLIPConfig(text_config=ids)).save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)


def extractor_of(name, folder):
    arguments = {"clip": {"weights": str(folder / "encoder")}, "pixels": {"size": 96, "patch": 16}}
    return get_extractor(name, **arguments[name])


def cache_features(name, folder):
    """Compute and keep the features of all images, if that is not done; seconds."""
    start = time.process_time()
    index, facts = extract(
        read_samples(folder / "samples.csv"), extractor_of(name, folder), cache=folder / "cache",
        dtype="float32", shard=256, batch_size=32, threads=THREADS, keep_decoded=False,
        device="cpu",
    )  # fmt: skip
    write_parquet(folder / name / "index.parquet", index)
    write_json(folder / name / "facts.json", facts)
    return time.process_time() - start


class Case:
    """One model on the data of `folder`, trained by either side."""

    def __init__(self, name, extractor, width, folder):
        torch.set_num_threads(THREADS)
        self.extractor = extractor
        arguments = {"width": width, "heads": 4, "image_size": SIDE}
        if name == "clip_mlp":
            arguments["weights"] = str(folder / "encoder")
        spec = input_spec(name, arguments, folder / "tokenizer.json")
        features = (
            FeatureReader(folder / self.extractor / "index.parquet") if self.extractor else None
        )
        self.data = EncodedSamples(read_samples(folder / "samples.csv"), spec, features)
        self.rows = self.data.split("train")
        torch.manual_seed(0)
        self.model = build_model(name, arguments, self.data)
        start = time.process_time()
        self.part, self.part_data = trained_part(self.model, self.data, "cpu")
        self.seconds_once = time.process_time() - start
        schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
        own = {"batch_size": 32, "lr": 1e-4, "masked_words": {"weight": 0}, "buckets": True}
        self.settings = fill_defaults(own, schema["properties"]["training"])
        self.optimizer = build_optimizer(self.part, self.settings)
        if self.extractor == "clip":
            self.encoder = extractor_of("clip", folder)
            self.paths = list(dict.fromkeys(self.data.samples["image"]))

    def epoch(self):
        """One epoch of the trainer, which trains of a model what is not frozen."""
        self.model.use_attention("sdpa")
        generator = torch.Generator().manual_seed(0)
        data = self.part_data
        batches = epoch_batches(data, self.rows, self.settings, generator)
        schedule = build_schedule(self.optimizer, 10**6, self.settings)
        state = TrainingState(None, self.part, self.optimizer, schedule)
        train_epoch(state, data, batches, self.settings, generator, "cpu", lambda: False)

    def plain_epoch(self):
        """One epoch as usually written."""
        self.model.use_attention("eager")
        self.model.train()
        for index in self.rows[torch.randperm(len(self.rows))].split(self.settings["batch_size"]):
            logits = self.model(self.model.embed(self.plain_batch(index)))
            labels = self.data.targets(index)
            loss = classification_loss(logits, labels, self.settings["loss"])
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings["clip"])
            self.optimizer.step()

    def plain_batch(self, index):
        """All texts as long as the longest of the data, one image per sample."""
        data, images = self.data, self.data.image_index[index]
        text = (part[index] for part in (data.input_ids, data.valid, data.content))
        return Batch(*text, image_rows=torch.arange(len(index)), **self.plain_images(images))

    def plain_images(self, images):
        # Regions come from a file in the plain loop too, and who reads words opens no images.
        if self.extractor == "pixels" or self.data.spec.geometry is self.extractor is None:
            return self.data.image_inputs(images, "cpu")
        if self.extractor is None:
            paths = [self.data.pixels.paths[k] for k in images.tolist()]
            pixels = np.stack([read_pixels(path, self.data.spec.geometry) for path in paths])
            mean, std = self.data.spec.mean, self.data.spec.std
            return {"image": normalised(torch.from_numpy(pixels), mean, std)}
        paths = [self.paths[k] for k in images.tolist()]
        pixels = np.stack([read_pixels(path, self.encoder.geometry) for path in paths])
        with torch.inference_mode():
            found = self.encoder.extract(torch.from_numpy(pixels))["features"]
        kept = self.data.image_inputs(images, "cpu")
        return {**kept, "image": torch.from_numpy(np.asarray(found))}

    @torch.no_grad()
    def difference(self):
        """Greatest difference of the logits of both sides, relative to the greatest."""
        self.model.eval()
        self.part.eval()
        self.model.use_attention("eager")
        rows = self.rows[:64]
        plain = self.model(self.model.embed(self.plain_batch(rows)))
        self.model.use_attention("sdpa")
        batches = [self.part_data.batch(part) for part in rows.split(8)]
        parts = [self.part.logits(self.part.embed_shared(batch)) for batch in batches]
        return float((torch.cat(parts) - plain).abs().max() / plain.abs().max())


def one_epoch(case, folder, side):
    """Function that runs one epoch of a side."""
    return getattr(Case(*case, folder), side)


def measure(chosen, folder, repeats):
    """The record of one of CASES."""
    name, extractor, width = chosen
    extraction = cache_features(extractor, folder) if extractor else 0.0
    case = Case(*chosen, folder)
    case.epoch()  # warms up
    sides = (case.epoch, case.plain_epoch)
    pairs = [tuple(timed(side, now=time.process_time)[0] for side in sides) for _ in range(repeats)]
    ours, baseline = (statistics.median(seconds) for seconds in zip(*pairs, strict=True))
    start, peak, _ = in_own_process(one_epoch, chosen, folder, "epoch")
    _, plain_peak, _ = in_own_process(one_epoch, chosen, folder, "plain_epoch")
    facts = {
        "agreement": case.difference(),
        "peak_mb": peak,
        "baseline_peak_mb": plain_peak,
        "start_mb": start,
        "samples_per_second": len(case.rows) / ours,
        "baseline_samples_per_second": len(case.rows) / baseline,
        "seconds_once": extraction + case.seconds_once,
        "threads": THREADS,
    }
    return record("training", f"{name}, {width} wide, one epoch", pairs, **facts)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=384)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_samples(folder, options.samples)
        results = [measure(case, folder, options.repeats) for case in CASES]
    write_json(Path(__file__).parent / "results/training.json", results, indent=1)


if __name__ == "__main__":
    main()
