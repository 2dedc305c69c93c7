"""Small images, runs of extractors on them, and readers of what these wrote."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmlens.features.extract import extract
from mmlens.features.reader import FeatureReader
from mmlens.files import sha256_file, write_json
from mmlens.table import write_parquet

COUNT = 7


def noise(seed, width, height):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def samples_of(paths):
    sizes = [Image.open(path).size for path in paths]
    return pd.DataFrame(
        {
            "image": [str(path) for path in paths],
            "image_sha256": [sha256_file(path) for path in paths],
            "width": [width for width, _ in sizes],
            "height": [height for _, height in sizes],
        }
    )


@pytest.fixture
def images(tmp_path):
    """Paths of COUNT small images of different sizes."""
    folder = tmp_path / "img"
    folder.mkdir()
    paths = [folder / f"{k}.png" for k in range(COUNT)]
    for k, path in enumerate(paths):
        noise(k, 60 + 7 * k, 90 - 5 * k).save(path)
    return paths


def run(samples, cache, extractor, **changes):
    settings = {"dtype": "float32", "shard": 3, "batch_size": 2, "threads": 2}
    settings |= {"keep_decoded": True, "device": "cpu", **changes}
    return extract(samples, extractor, cache=cache, **settings)


def reader(folder, index, facts):
    write_parquet(folder / "index.parquet", index)
    write_json(folder / "facts.json", facts)
    return FeatureReader(folder / "index.parquet")


def read(folder, samples, cache, extractor, **changes):
    """The FeatureBatch of all samples after a run."""
    found = reader(folder, *run(samples, cache, extractor, **changes))
    return found.read(found.places_of(samples["image"]))
