"""Speed of the feature cache against the plain loop over images, and of training on it.

    python benchmarks/features.py --images FOLDER [--repeats 5]

writes benchmarks/results/features.json. Both sides of a ratio are measured in one run, in pairs;
the ratio is the median of the pairs, its range the least and the greatest. Weights are random:
they change what is computed, not how long it takes.
"""

import argparse
import resource
import shutil
import statistics
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from measuring import record, timed
from PIL import Image
from torch import nn
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from mmlens.features import get_extractor
from mmlens.features.extract import extract
from mmlens.features.reader import FeatureReader
from mmlens.files import sha256_file, write_json
from mmlens.table import write_parquet

THREADS = 2
# A model whose forward pass takes less than a tenth of the time of decoding.
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
SMALL |= {"intermediate_size": 32, "image_size": 224, "patch_size": 32}


def samples_of(folder):
    paths = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in (".jpg", ".png"))
    sizes = [Image.open(path).size for path in paths]
    return pd.DataFrame(
        {
            "image": [str(path) for path in paths],
            "image_sha256": [sha256_file(path) for path in paths],
            "width": [width for width, _ in sizes],
            "height": [height for _, height in sizes],
        }
    )


def make_clip(folder, seed=0, **sizes):
    """A CLIP image tower with random weights; the sizes of ViT-B/32 by default."""
    torch.manual_seed(seed)
    CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes)).save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)
    return get_extractor("clip", weights=str(folder))


@torch.inference_mode()
def plain(samples, extractor):
    """The usual loop: one image at a time is opened, preprocessed and sent through the model."""
    features = []
    for path in samples["image"]:
        with Image.open(path) as image:
            pixels = extractor.geometry.apply(image.convert("RGB"))
        batch = torch.from_numpy(np.ascontiguousarray(pixels))[None]
        features.append(extractor.extract(batch)["features"][0])
    return np.stack(features)


def cached(samples, extractor, cache, keep_decoded=True):
    """The same features through the cache: index and facts."""
    return extract(
        samples, extractor, cache=cache, dtype="float32", shard=256, batch_size=32,
        threads=THREADS, keep_decoded=keep_decoded, device="cpu",
    )  # fmt: skip


def opened(folder, index, facts):
    write_parquet(folder / "index.parquet", index)
    write_json(folder / "facts.json", facts)
    return FeatureReader(folder / "index.parquet")


def of_features(case, pairs, agreement, **facts):
    """A record of this benchmark; agreement : greatest relative difference of the features."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return record("features", case, pairs, agreement=agreement, peak_mb=peak, **facts)


def agreement_of(reader, samples, expected):
    """Greatest difference of two sets of features, relative to the greatest value."""
    found = reader.read(reader.places_of(samples["image"])).features
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def cold(samples, extractor, folder, repeats, keep_decoded):
    """Nothing cached: decoding dominates, since the model is small."""
    pairs = []
    for _ in range(repeats):
        shutil.rmtree(folder / "cache", ignore_errors=True)
        ours, (index, facts) = timed(cached, samples, extractor, folder / "cache", keep_decoded)
        baseline, expected = timed(plain, samples, extractor)
        pairs.append((ours, baseline))
    difference = agreement_of(opened(folder, index, facts), samples, expected)
    rate = len(samples) / statistics.median(ours for ours, _ in pairs)
    case = "cold, decoded images kept" if keep_decoded else "cold"
    return of_features(case, pairs, difference, images_per_second=rate)


def second_extractor(samples, first, second, folder, repeats):
    """The decoded images are there, kept by an extractor of equal geometry."""
    pairs = []
    for _ in range(repeats):
        shutil.rmtree(folder / "cache", ignore_errors=True)
        cached(samples, first, folder / "cache")
        ours, (index, facts) = timed(cached, samples, second, folder / "cache")
        baseline, expected = timed(plain, samples, second)
        pairs.append((ours, baseline))
    difference = agreement_of(opened(folder, index, facts), samples, expected)
    rate = len(samples) / statistics.median(ours for ours, _ in pairs)
    return of_features("second extractor", pairs, difference, images_per_second=rate)


def epoch(features_of, count, width):
    """One epoch of a linear head on mean features, in batches of 32; the mean loss."""
    torch.manual_seed(0)
    head = nn.Linear(width, 2)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)
    labels = torch.arange(count) % 2
    total = 0.0
    for rows in torch.randperm(count).split(32):
        features = torch.from_numpy(features_of(rows.numpy())).mean(1)
        loss = nn.functional.cross_entropy(head(features), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(rows)
    return total / count


def training(samples, extractor, folder, repeats):
    """An epoch of a head on a frozen encoder of the size of CLIP ViT-B/32."""
    index, facts = cached(samples, extractor, folder / "cache")
    reader = opened(folder, index, facts)
    places = reader.places_of(samples["image"])
    images = samples["image"].to_numpy()

    @torch.inference_mode()
    def computed(rows):
        pixels = []
        for path in images[rows]:
            with Image.open(path) as image:
                pixels.append(extractor.geometry.apply(image.convert("RGB")))
        return extractor.extract(torch.from_numpy(np.stack(pixels)))["features"]

    pairs = []
    for _ in range(repeats):
        ours, with_cache = timed(
            epoch,
            lambda rows: reader.read(places[rows]).features,
            len(samples),
            extractor.width,
        )
        baseline, without = timed(epoch, computed, len(samples), extractor.width)
        pairs.append((ours, baseline))
    return of_features("training epoch, frozen encoder", pairs, abs(with_cache - without) / without)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True, help="folder of photographs")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    samples = samples_of(options.images)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = make_clip(folder / "small", **SMALL)
        other = make_clip(folder / "other", seed=1, **SMALL)
        large = make_clip(folder / "large", image_size=224, patch_size=32)
        results = [
            cold(samples, small, folder, options.repeats, keep_decoded=False),
            cold(samples, small, folder, options.repeats, keep_decoded=True),
            second_extractor(samples, small, other, folder, options.repeats),
            training(samples, large, folder, options.repeats),
        ]
    write_json(Path(__file__).parent / "results/features.json", results, indent=1)


if __name__ == "__main__":
    main()
