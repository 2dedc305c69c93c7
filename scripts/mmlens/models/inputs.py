"""From rows of the samples table to batches of tensors."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from PIL import Image
from tokenizers import Tokenizer

from ..datasets.images import open_rgb

PIXEL_MEAN, PIXEL_STD = 0.5, 0.25


@dataclass
class Batch:
    """Inputs of B samples.

    input_ids : long (B, T), padded; text_valid : bool (B, T), True where not padding;
    text_content : bool (B, T), True for words (neither special nor padding);
    image : float (U, 3, S, S), pixels normalised with PIXEL_MEAN and PIXEL_STD, or, for a model
        on frozen features, (U, N, D);
    image_rows : long (B,), which of the U images each sample shows;
    boxes : float (U, N, 4), x1 y1 x2 y2 as shares of the image, and image_valid : bool (U, N),
        False for padding; both None where `image` holds pixels.
    """

    input_ids: torch.Tensor
    text_valid: torch.Tensor
    text_content: torch.Tensor
    image: torch.Tensor
    image_rows: torch.Tensor
    boxes: torch.Tensor | None = None
    image_valid: torch.Tensor | None = None


def read_pixels(path, size):
    """An image file as uint8 array (3, size, size): RGB, resized (aspect ratio not kept)."""
    image = open_rgb(path)
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image).transpose(2, 0, 1)


def read_all(paths, size):
    """uint8 array (n, 3, size, size) of image files; zeros where there is none to read ("")."""
    pixels = np.zeros((len(paths), 3, size, size), np.uint8)
    for position, path in enumerate(paths):
        if path:
            pixels[position] = read_pixels(path, size)
    return pixels


class EncodedSamples:
    """The samples of a run as tensors; each image file is decoded once.

    Parameters
    ----------
    samples : DataFrame, the samples table (or rows of it)
    tokenizer : path of a tokenizer file
    image_size : int, side of the square that images are resized to
    features : FeatureReader, whose features take the place of the pixels; None for pixels
    """

    def __init__(self, samples, tokenizer, image_size, features=None):
        self.samples = samples.reset_index(drop=True)
        self.tokenizer = Tokenizer.from_file(str(tokenizer))
        self.vocabulary_size = self.tokenizer.get_vocab_size()
        self.max_length = self.tokenizer.padding["length"]
        self.encodings = self.tokenizer.encode_batch(self.samples["text"].tolist())
        self.input_ids = torch.tensor([e.ids for e in self.encodings])
        # By the encoding's own masks: a text may contain "[SEP]" as a word.
        self.valid = torch.tensor([e.attention_mask for e in self.encodings]).bool()
        special = torch.tensor([e.special_tokens_mask for e in self.encodings]).bool()
        self.content = self.valid & ~special
        self.image_index, unique = pd.factorize(self.samples["image"])
        self.image_index = torch.from_numpy(self.image_index)
        self.features = features
        if features is None:
            self.pixels = torch.from_numpy(read_all(unique, image_size))
        else:
            self.places = features.places_of(unique)
        self.labels = torch.tensor(self.samples["label"].to_numpy(), dtype=torch.float32)

    def __len__(self):
        return len(self.samples)

    def batch(self, index, device="cpu", share_images=False):
        """The `Batch` of the rows `index` (long tensor).

        share_images : keep one copy of an image that several samples show, so that the stem
            computes it once; by default every sample has its own (and its own gradient).
        """
        images = self.image_index[index]
        rows = torch.arange(len(index))
        if share_images:
            images, rows = images.unique(return_inverse=True)
        return Batch(
            input_ids=self.input_ids[index].to(device),
            text_valid=self.valid[index].to(device),
            text_content=self.content[index].to(device),
            image_rows=rows.to(device),
            **self.image_inputs(images, device),
        )

    def image_inputs(self, images, device):
        """Fields image, boxes and image_valid of a `Batch` for the distinct images `images`."""
        if self.features is None:
            pixels = self.pixels[images].to(device).float() / 255
            return {"image": (pixels - PIXEL_MEAN) / PIXEL_STD}
        cached = self.features.read(self.places[images.numpy()])
        arrays = {"image": cached.features, "boxes": cached.boxes, "image_valid": cached.valid}
        return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}

    def split(self, name):
        """Row numbers (long tensor) of the split called `name`."""
        rows = np.flatnonzero((self.samples["split"] == name).to_numpy())
        return torch.from_numpy(rows)

    def words(self, row):
        """Words of a row with the character span of each: lists of str and (start, end)."""
        encoding = self.encodings[row]
        keep = [k for k, special in enumerate(encoding.special_tokens_mask) if not special]
        text = self.samples["text"].iat[row]
        spans = [encoding.offsets[k] for k in keep]
        return [text[start:end] for start, end in spans], spans
