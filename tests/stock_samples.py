"""Samples for the models that start from a small checkpoint."""

import numpy as np
import pandas as pd
import torch
from PIL import Image
from transformers import AutoImageProcessor

from mmlens.models import build_model, input_spec
from mmlens.models.inputs import EncodedSamples

SIZES = [(50, 20), (32, 32), (17, 60), (40, 33)]  # width and height of the images


def write_samples(folder, texts):
    """Rows of a samples table, predicted to be 1, with noise of several shapes as images."""
    rows = []
    for k, text in enumerate(texts):
        path, (width, height) = str(folder / f"{k}.png"), SIZES[k % len(SIZES)]
        values = np.random.default_rng(k).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(values).save(path)
        own = {"sample_id": f"sample-{k}", "text": text, "image": path, "label": k % 2}
        rows.append({**own, "width": width, "height": height, "prediction": 1, "threshold": 0.5})
    return pd.DataFrame(rows)


def read_stock(name, folder, texts, **options):
    """(model in eval mode, EncodedSamples) of the checkpoint in `folder`."""
    settings = {"weights": str(folder), **options}
    spec = input_spec(name, settings, None)
    data = EncodedSamples(write_samples(folder, texts), spec)
    return build_model(name, settings, data).eval(), data


def everything(model, data):
    """{modality: Tokens} of all samples."""
    return model.embed(data.batch(torch.arange(len(data))))


def stock_pixels(folder, samples):
    """Pixels of the samples' images by the image processor of the checkpoint."""
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    images = [Image.open(path).convert("RGB") for path in samples["image"]]
    return processor(images, return_tensors="pt").pixel_values
