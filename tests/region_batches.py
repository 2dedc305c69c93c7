"""Small batches of texts and regions for the models that read cached regions."""

from types import SimpleNamespace

import torch
import torch.nn.functional as F
from transformers import BertTokenizerFast

from mmlens.models import MODELS
from mmlens.models.inputs import Batch

WORDS = 30  # of the vocabulary
FEATURES = SimpleNamespace(width=6, grid=None)
RUN = {"vocabulary_size": WORDS, "max_length": 12, "features": FEATURES}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PER_SAMPLE = ("input_ids", "text_valid", "text_content", "image", "boxes", "image_valid")


def new_model(name, **options):
    """A small model from scratch in double precision, with weights that all matter."""
    torch.manual_seed(0)
    return shaken(MODELS.get(name)(**RUN, width=8, heads=2, **options)).double().eval()


@torch.no_grad()
def shaken(network):
    """A network none of whose weights is 0 or 1, as fresh biases and norms are."""
    for parameter in network.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    return network


def make_batch(regions=5, words=4, padding=(0, 0), dtype=torch.float64):
    """Three samples of `regions` regions each, and padding after words and regions."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, WORDS, (3, 6), generator=generator)[:, : words + 2]
    ids[:, 0], ids[:, -1] = 2, 3
    features = torch.randn(3, 5, 6, generator=generator, dtype=dtype)[:, :regions]
    corners = torch.rand(3, 5, 2, 2, generator=generator, dtype=dtype).sort(2).values
    boxes = corners.flatten(2)[:, :regions]
    shown = F.pad(torch.ones_like(ids, dtype=torch.bool), (0, padding[0]))
    ids = F.pad(ids, (0, padding[0]))
    valid = F.pad(torch.ones(3, regions, dtype=torch.bool), (0, padding[1]))
    # What a padded region holds must not matter.
    features, boxes = (F.pad(x, (0, 0, 0, padding[1]), value=0.7) for x in (features, boxes))
    return Batch(ids, shown, shown & (ids > 4), features, torch.arange(3), boxes, valid)


@torch.no_grad()
def logits_of(model, batch):
    return model(model.embed(batch))


def close(found, expected, tolerance=1e-9):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def save_tokenizer(folder):
    """A tokenizer of BERT's kind with as many words as WORDS."""
    words = [*SPECIAL, *(f"word{k}" for k in range(WORDS - len(SPECIAL)))]
    BertTokenizerFast(vocab={word: k for k, word in enumerate(words)}).save_pretrained(folder)
