"""From rows of the samples table to batches of tensors."""

import json
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer

from ..datasets.images import open_rgb
from ..datasets.vocabulary import MASK, PAD
from ..features.base import Geometry
from ..features.normalise import PLAIN, normalised

# More decoded pixels than this are read again for every batch instead of being kept.
KEPT_BYTES = 2 * 2**30


@dataclass(frozen=True)
class InputSpec:
    """How texts and images become the inputs of a model.

    tokenizer : tokenizers.Tokenizer; max_length : most text tokens, special ones included;
    pad_id, mask_id : of its special tokens, mask_id None if it has none;
    geometry : Geometry of the pixels; mean, std : (3,) of their normalisation
    fill : whether every text has max_length tokens, with padding that the model reads as it reads
        words: SigLIP was trained so
    raw : whether the model reads the texts and image files themselves, by a processor of its own
    """

    tokenizer: Tokenizer
    max_length: int
    pad_id: int
    mask_id: int | None
    geometry: Geometry | None = None
    mean: tuple = PLAIN[0]
    std: tuple = PLAIN[1]
    fill: bool = False
    raw: bool = False


def own_inputs(tokenizer, image_size=None, max_length=None):
    """`InputSpec` of the from-scratch models: the run's own words, stretched square images.

    tokenizer : path of the run's tokenizer file; max_length : by default its longest text
    """
    tokenizer = Tokenizer.from_file(str(tokenizer))
    longest = tokenizer.padding["length"]
    return InputSpec(
        tokenizer,
        min(max_length or longest, longest),
        PAD,
        MASK,
        Geometry(image_size, image_size) if image_size else None,
    )


@dataclass
class Batch:
    """Inputs of B samples.

    input_ids : long (B, T), padded to the longest of them; text_valid : bool (B, T), True where
        not padding;
    text_content : bool (B, T), True for words (neither special nor padding);
    image : float (U, 3, H, W), normalised pixels, or, for a model on frozen features, (U, N, D);
    image_rows : long (B,), which of the U images each sample shows;
    boxes : float (U, N, 4), x1 y1 x2 y2 as shares of the image, and image_valid : bool (U, N),
        False for padding; both None where `image` holds pixels;
    texts, paths : B strings each, the texts and the image files; None unless the model asks for
        them (`InputSpec.raw`).
    """

    input_ids: torch.Tensor
    text_valid: torch.Tensor
    text_content: torch.Tensor
    image: torch.Tensor
    image_rows: torch.Tensor
    boxes: torch.Tensor | None = None
    image_valid: torch.Tensor | None = None
    texts: list | None = None
    paths: list | None = None

    def rows(self, index):
        """The samples `index` (list of int), padded as all are; each must have its own image."""
        if self.image_rows.tolist() != list(range(len(self.image))):
            raise ValueError("found samples that share images; expected a batch without")
        parts = {
            name: [part[k] for k in index] if isinstance(part, list) else part[index]
            for name, part in vars(self).items()
            if part is not None
        }
        return replace(self, **{**parts, "image_rows": self.image_rows[: len(index)]})


def read_pixels(path, geometry):
    """An image file as uint8 array (3, height, width); zeros where there is none to read ("")."""
    if not path:
        return np.zeros((3, geometry.height, geometry.width), np.uint8)
    return geometry.apply(open_rgb(path))


class Pixels:
    """Images by number; decoded when one is read, and kept in memory if all fit."""

    def __init__(self, paths, geometry):
        self.paths, self.geometry = list(paths), geometry

    @cached_property
    def kept(self):
        """uint8 (U, 3, height, width) of all images; None where that would be too much."""
        size = len(self.paths) * 3 * self.geometry.height * self.geometry.width
        return self.decode(range(len(self.paths))) if size <= KEPT_BYTES else None

    def decode(self, numbers):
        shape = (len(numbers), 3, self.geometry.height, self.geometry.width)
        pixels = np.empty(shape, np.uint8)
        for position, number in enumerate(numbers):
            pixels[position] = read_pixels(self.paths[number], self.geometry)
        return torch.from_numpy(pixels)

    def read(self, numbers):
        """uint8 (n, 3, height, width) of the images `numbers` (long tensor)."""
        return self.decode(numbers.tolist()) if self.kept is None else self.kept[numbers]


class EncodedSamples:
    """The samples of a run as tensors; each image file is decoded once.

    Parameters
    ----------
    samples : DataFrame, the samples table (or rows of it)
    spec : InputSpec
    features : FeatureReader, whose features take the place of the pixels; None for pixels
    answers : names of all answers in order, for samples with soft scores; None for two classes
    """

    def __init__(self, samples, spec, features=None, answers=None):
        self.samples = samples.reset_index(drop=True)
        self.spec, self.features = spec, features
        self.vocabulary_size = spec.tokenizer.get_vocab_size()
        self.max_length = spec.max_length
        self.encode_texts()
        self.image_index, unique = pd.factorize(self.samples["image"])
        self.image_index = torch.from_numpy(self.image_index)
        if features is not None:
            self.places = features.places_of(unique)
        elif spec.geometry is not None:
            self.pixels = Pixels(unique, spec.geometry)
        self.labels = torch.tensor(self.samples["label"].to_numpy(), dtype=torch.float32)
        self.answers, self.outputs = answers, 1 if answers is None else len(answers)
        if answers is not None:
            self.scores = numbered_scores(self.samples["answers"], answers)

    def encode_texts(self):
        """Fill in what depends on the texts of the samples."""
        spec = self.spec
        self.encodings = encode(self.samples["text"].tolist(), spec)
        own = [len(encoding.ids) for encoding in self.encodings]
        lengths = [spec.max_length if spec.fill else length for length in own]
        self.lengths = torch.tensor(lengths, dtype=torch.long)
        shape = (len(lengths), max(lengths, default=0))
        self.input_ids = torch.full(shape, spec.pad_id, dtype=torch.long)
        special = torch.ones(shape, dtype=torch.bool)
        for row, (encoding, length) in enumerate(zip(self.encodings, own, strict=True)):
            self.input_ids[row, :length] = torch.tensor(encoding.ids)
            # By the encoding's own mask: a text may contain "[SEP]" as a word.
            special[row, :length] = torch.tensor(encoding.special_tokens_mask).bool()
        self.valid = torch.arange(shape[1]) < self.lengths[:, None]
        self.content = ~special

    def with_texts(self, texts):
        """A copy with other texts, one per sample."""
        other = copy(self)
        other.samples = self.samples.assign(text=texts)
        other.encode_texts()
        return other

    def with_pixels(self, pixels):
        """A copy with other pixels; pixels : as `Pixels`, of the distinct images in their order."""
        other = copy(self)
        other.pixels = pixels
        return other

    def with_features(self, features):
        """A copy with other features; features : as a `FeatureReader`."""
        other = copy(self)
        other.features, other.places = features, features.places_of(self.samples["image"].unique())
        return other

    def with_files(self, files):
        """A copy with other image files, for a model that opens them itself (`InputSpec.raw`).

        files : {path of the image: path of the file in its place}
        """
        other = copy(self)
        other.samples = self.samples.assign(image=self.samples["image"].map(files))
        return other

    def __len__(self):
        return len(self.samples)

    def targets(self, index):
        """Labels (B,) of the rows `index`, or soft scores (B, answers)."""
        if self.outputs == 1:
            return self.labels[index]
        targets = torch.zeros(len(index), self.outputs)
        for position, row in enumerate(index.tolist()):
            for answer, score in self.scores[row].items():
                targets[position, answer] = score
        return targets

    def batch(self, index, device="cpu", share_images=False):
        """The `Batch` of the rows `index` (long tensor).

        share_images : keep one copy of an image that several samples show, so that the stem
            computes it once; by default every sample has its own (and its own gradient).
        """
        images = self.image_index[index]
        rows = torch.arange(len(index))
        if share_images:
            images, rows = images.unique(return_inverse=True)
        longest = int(self.lengths[index].max()) if len(index) else 0
        text = (part[index, :longest] for part in (self.input_ids, self.valid, self.content))
        chosen = self.samples.iloc[index.numpy()] if self.spec.raw else None
        return Batch(
            *(part.to(device) for part in text),
            image_rows=rows.to(device),
            texts=chosen["text"].tolist() if self.spec.raw else None,
            paths=chosen["image"].tolist() if self.spec.raw else None,
            **self.image_inputs(images, device),
        )

    def image_inputs(self, images, device):
        """Fields image, boxes and image_valid of a `Batch` for the distinct images `images`."""
        if self.features is not None:
            cached = self.features.read(self.places[images.numpy()])
            arrays = {"image": cached.features, "boxes": cached.boxes, "image_valid": cached.valid}
            return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
        if self.spec.geometry is None:  # of a model that reads words only
            return {"image": torch.zeros(len(images), 0, device=device)}
        pixels = self.pixels.read(images).to(device)
        return {"image": normalised(pixels, self.spec.mean, self.spec.std)}

    def split(self, name):
        """Row numbers (long tensor) of the split called `name`."""
        rows = np.flatnonzero((self.samples["split"] == name).to_numpy())
        return torch.from_numpy(rows)

    def words(self, row):
        """Words of a row with the character span of each: lists of str and (start, end).

        Pieces of bytes have no space before them, and a character of several is that of the first.
        """
        encoding, text = self.encodings[row], self.samples["text"].iat[row]
        spans, shown = [], 0
        for (start, end), special in zip(
            encoding.offsets, encoding.special_tokens_mask, strict=True
        ):
            if not special:
                piece = text[max(start, shown) : end]
                spans.append((end - len(piece.lstrip()), end))
                shown = end
        return [text[start:end] for start, end in spans], spans


def encode(texts, spec):
    """Encodings of texts, unpadded, cut to spec.max_length; says how many were cut."""
    tokenizer = spec.tokenizer
    tokenizer.no_padding()
    tokenizer.no_truncation()
    lengths = [len(encoding.ids) for encoding in tokenizer.encode_batch(texts)]
    long = sum(length > spec.max_length for length in lengths)
    if long:
        print(f"{long} of {len(texts)} texts have more than {spec.max_length} tokens and are cut")
    tokenizer.enable_truncation(spec.max_length)
    return tokenizer.encode_batch(texts)


def numbered_scores(column, answers):
    """One {number of the answer: score} per cell of the samples table's column answers.

    Answers that are not among `answers` are left out: no output stands for them.
    """
    number = {answer: k for k, answer in enumerate(answers)}
    cells = (json.loads(cell) for cell in column)
    return [{number[a]: score for a, score in cell.items() if a in number} for cell in cells]
