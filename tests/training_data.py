"""Small data, models and settings for the tests of training; as a script, one training.

    python tests/training_data.py FOLDER STATE [SIGNAL STEP]

trains the model of `new_model` on the data of FOLDER with EXACT_SETTINGS; in the optimiser step of
number STEP the process sends itself SIGNAL.
"""

import os
import signal
import sys
from pathlib import Path

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.append(str(ROOT / "scripts"))

from mmlens.config_schema import fill_defaults, read_schema
from mmlens.datasets import DATASETS
from mmlens.datasets.generated import generate
from mmlens.datasets.samples import build_samples
from mmlens.datasets.vocabulary import train_tokenizer
from mmlens.models import build_model
from mmlens.models.inputs import EncodedSamples, own_inputs
from mmlens.table import read_samples, write_csv
from mmlens.training.loop import train
from mmlens.training.objective import batch_loss
from mmlens.training.processes import ALONE

SCHEMA = read_schema(ROOT / "workflow/schemas/config.schema.yaml")["properties"]["training"]
SIZE = {"width": 16, "heads": 2, "image_size": 96}


def settings(**keys):
    """Section training with its defaults and small numbers of epochs and samples."""
    small = {"epochs": 3, "batch_size": 16, "warmup": 0.1, "masked_words": {"label": 0}}
    return fill_defaults({**small, **keys}, SCHEMA)


# Everything that an interruption could lose: random words, dropout, averaged weights, a group of
# batches, the best epoch so far.
EXACT_SETTINGS = settings(epochs=3, batch_size=8, accumulate=2, ema=0.9, buckets=True, save_every=1)

# Halves of 9 samples differ in size, and the last batch has 3. With a small eps Adam would make
# steps of full length of the rounding errors of gradients that are 0.
TOGETHER = settings(epochs=2, batch_size=9, accumulate=2, processes=2, save_every=1, eps=0.01)


def write_data(root, quads=None):
    """Generate a data set below `root`; its EncodedSamples."""
    quads = quads or {"train": 12, "val": 4, "test": 4}
    generate(root, quads=quads)
    samples, _, _ = build_samples(DATASETS.get("generated")({"root": str(root), "quads": quads}))
    tokenizer = train_tokenizer(samples["text"], samples["text"])
    tokenizer.save(str(root / "tokenizer.json"))
    write_csv(root / "samples.csv", samples)
    return read_data(root)


def read_data(root):
    """What `write_data` wrote."""
    root = Path(root)
    samples = read_samples(root / "samples.csv")
    return EncodedSamples(samples, own_inputs(root / "tokenizer.json", SIZE["image_size"]))


def new_model(data, name="vilt_scratch", dropout=0.0):
    """A model with fresh weights; dropout for those with a final norm."""
    torch.manual_seed(0)
    model = build_model(name, SIZE, data)
    if dropout:
        model.final_norm = nn.Sequential(model.final_norm, nn.Dropout(dropout))
    return model


def train_exactly(data, state_path):
    """A training whose weights tell whether anything was lost on the way."""
    model = new_model(data, dropout=0.1)
    train(model, data, EXACT_SETTINGS, seed=3, device="cpu", state_path=Path(state_path))
    return model


def joint_gradient(model, data, processes=ALONE):
    """Gradient of a batch of 7 samples that the processes share, one parameter of it unused."""
    model.unused = nn.Parameter(torch.ones(3))
    generator = torch.Generator().manual_seed(0)
    index = data.split("train")[:7]
    part, share = processes.part(len(index))
    loss = batch_loss(model, data, index, TOGETHER, generator, "cpu", part) * share
    loss.backward()
    processes.add_gradients(model.parameters())
    return {name: p.grad for name, p in model.named_parameters()}


def send_in_step(name, step):
    """Let the process send itself a signal in the middle of an optimiser step."""
    count = 0

    def send(*_):
        nonlocal count
        count += 1
        if count == step:
            os.kill(os.getpid(), signal.Signals[name])

    register_optimizer_step_pre_hook(send)


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, state = sys.argv[1:3]
    if len(sys.argv) > 3:
        send_in_step(sys.argv[3], int(sys.argv[4]))
    train_exactly(read_data(folder), state)
