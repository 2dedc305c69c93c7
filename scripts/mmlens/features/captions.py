"""Captions of images by BLIP, generated once and kept in the same cache as features."""

import numpy as np
from transformers import AutoTokenizer, BlipForConditionalGeneration

from ..table import DataError
from .base import Extractor, weights_hash
from .normalise import normalised
from .vision_transformers import checkpoint_folder, read_processor


class Captions(Extractor):
    """One caption per image, decoded greedily (BLIP, Li et al. 2022).

    weights : folder in the format of transformers' save_pretrained (with its processor), or the
        name of a repository of the model hub
    length : most tokens of a caption
    """

    name = "captions"

    def __init__(self, weights, length=30):
        folder = checkpoint_folder("captions.model", weights)
        self.weights, self.length = weights_hash(folder), length
        self.network, loaded = BlipForConditionalGeneration.from_pretrained(
            folder, output_loading_info=True, use_safetensors=True, dtype="float32"
        )
        missing = sorted(loaded["missing_keys"])
        if missing:
            raise DataError("weights", [f"{folder}: no tensor {name}" for name in missing])
        self.network.eval().requires_grad_(False)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.geometry, self.mean, self.std = read_processor(folder)

    def settings(self):
        return {
            "weights": self.weights,
            "mean": self.mean,
            "std": self.std,
            "length": self.length,
        }

    def to(self, device):
        self.network.to(device)
        return self

    def extract(self, images):
        """{"caption": array (B,) of str}."""
        ids = self.network.generate(
            pixel_values=normalised(images, self.mean, self.std),
            max_new_tokens=self.length,
            do_sample=False,
            num_beams=1,
        )
        return {"caption": np.array(self.tokenizer.batch_decode(ids, skip_special_tokens=True))}


def joined(texts, captions, separator):
    """list of str: each text, `separator`, its caption; the text alone where the caption is ""."""
    return [
        f"{text}{separator}{caption}" if caption else text
        for text, caption in zip(texts, captions, strict=True)
    ]
