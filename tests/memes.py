"""Made-up memes in the layout of the official files."""

import io
import json

import numpy as np
from PIL import Image

SPLITS = {"train.jsonl": 8, "dev_seen.jsonl": 4, "test_seen.jsonl": 4}


def meme(number, **changes):
    """One record: even numbers are not hateful."""
    name = f"{number:05d}"
    record = {"id": name, "img": f"img/{name}.png", "label": number % 2}
    return {**record, "text": f"made-up text {number}", **changes}


def jsonl(records):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def picture(number):
    """Bytes of a PNG of noise, another one for every number."""
    pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def annotations():
    """{name: bytes} of one jsonl file per official split, its numbers following each other."""
    files, number = {}, 1
    for name, count in SPLITS.items():
        files[name] = jsonl(meme(k) for k in range(number, number + count))
        number += count
    return files


def images(numbers=range(1, 17)):
    """{name: bytes} of the images of these memes."""
    return {f"img/{number:05d}.png": picture(number) for number in numbers}
