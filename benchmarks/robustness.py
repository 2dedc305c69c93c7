"""Cost of the robustness evaluation against that of its forward passes alone.

    python benchmarks/robustness.py [--quads 60] [--repeats 5]

writes benchmarks/results/robustness.json. The evaluation is `predict_corrupted` with all
corruptions at their usual levels: decoding, resizing, corrupting, tokenising, predicting. The
baseline computes logits of the same corrupted samples as often, in the same batches, from inputs
that are tensors in memory already. Both are measured in one run, in pairs, as CPU seconds on one
thread; the ratio is baseline / evaluation, so that 1 / ratio is what the evaluation costs in units
of its forward passes. Models start from scratch, in the size of the default run, and one
of 384 wide layers on 224 pixels.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from measuring import record, timed

from mmlens.datasets import DATASETS
from mmlens.datasets.generated import generate
from mmlens.datasets.samples import build_samples
from mmlens.datasets.vocabulary import train_tokenizer
from mmlens.files import write_json
from mmlens.models import build_model, input_spec
from mmlens.models.inputs import EncodedSamples
from mmlens.robustness import CORRUPTIONS
from mmlens.robustness.corrupted import Corrupter
from mmlens.robustness.records import predict_corrupted
from mmlens.training.predict import BATCH, predict

# Model, its arguments, side of the images, and the share of the samples that it gets.
CASES = [
    ("vilt_scratch", {"width": 128, "heads": 4, "image_size": 96}, 96, 1.0),
    ("blip_scratch", {"width": 128, "heads": 4, "image_size": 96}, 96, 1.0),
    ("vilt_scratch", {"width": 384, "heads": 6, "image_size": 224}, 224, 0.05),
]


def encoded(folder, quads, name, arguments):
    """A model and the samples of the split test."""
    settings = {"root": str(folder), "quads": {"train": 2, "val": 2, "test": quads}}
    samples, _, _ = build_samples(DATASETS.get("generated")(settings))
    train_tokenizer(samples["text"], samples["text"]).save(str(folder / "tokenizer.json"))
    spec = input_spec(name, arguments, folder / "tokenizer.json", None)
    data = EncodedSamples(samples[samples["split"] == "test"], spec)
    torch.manual_seed(0)
    return build_model(name, arguments, data).eval(), data


def evaluate(model, data, size):
    """The records of all corruptions, and the samples of every condition."""
    seen = []

    def logits_of(corrupted):
        seen.append(corrupted)
        return lambda rows: predict(model, corrupted, rows, "cpu")

    levels = {name: CORRUPTIONS.attribute(name, "levels") for name in CORRUPTIONS.names()}
    return predict_corrupted(logits_of, Corrupter(data, size), levels, {}, 0.5), seen


@torch.no_grad()
def forward(model, batches):
    """Logits of batches that are tensors already."""
    return [model.logits(model.embed_shared(batch)) for batch in batches]


def measure(case, quads, repeats):
    name, arguments, size, share = case
    now = time.process_time
    with tempfile.TemporaryDirectory() as folder:
        count = max(2, int(quads * share))
        generate(folder, quads={"train": 2, "val": 2, "test": count}, size=size)
        model, data = encoded(Path(folder), count, name, arguments)
        pairs, conditions = [], 0
        for _ in range(repeats):
            ours, (_, seen) = timed(evaluate, model, data, size, now=now)
            conditions, baseline = len(seen), 0.0
            for corrupted in seen:  # one after the other, so that memory holds one
                rows = torch.arange(len(corrupted)).split(BATCH)
                batches = [corrupted.batch(part, share_images=True) for part in rows]
                baseline += timed(forward, model, batches, now=now)[0]
            pairs.append((ours, baseline))
        cost = statistics.median(ours / baseline for ours, baseline in pairs)
        title = f"{name}, {arguments['width']} wide, {size} pixels"
        facts = {"conditions": conditions, "samples": len(data), "cost": cost}
        return record("robustness", title, pairs, agreement=None, peak_mb=None, **facts)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quads", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = [measure(case, options.quads, options.repeats) for case in CASES]
    write_json(Path(__file__).parent / "results/robustness.json", results, indent=1)


if __name__ == "__main__":
    main()
