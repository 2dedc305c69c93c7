"""Which samples go through the network together, in which order."""

import torch

from ..files import seed_from
from ..table import DataError, task_of

WINDOW = 20  # batches within which samples are sorted by length


def epoch_batches(data, rows, settings, generator):
    """The batches of one epoch: list of long tensors (B,), B = settings["batch_size"] or less.

    Each is made of samples next to each other in a random order of `rows`. With
    settings["buckets"] samples within WINDOW batches of it are sorted by the length of their texts
    first, and then the batches are shuffled: a batch is padded to its longest text, and nearly all
    are as long as that. Which samples meet stays a matter of chance.

    Parameters
    ----------
    data : EncodedSamples
    rows : long tensor (N,)
    generator : torch.Generator on the CPU
    """
    size = settings["batch_size"]
    order = shuffle(data.samples, rows, generator)
    if not settings["buckets"]:
        return list(order.split(size))
    lengths = unit_lengths(data, order)
    batches = []
    for window, length in zip(
        order.split(WINDOW * size), lengths.split(WINDOW * size), strict=True
    ):
        batches += window[torch.argsort(length, stable=True)].split(size)
    return [batches[k] for k in torch.randperm(len(batches), generator=generator)]


def training_rows(data, per_class):
    """Rows (N,) of the split train: all, or so many of each label.

    Samples are taken in the order of a hash of their id, so that every seed sees the same and a
    greater number keeps those of a smaller one.

    Raises
    ------
    DataError if there are fewer of a label, or the labels are not two.
    """
    rows = data.split("train")
    if per_class is None:
        return rows
    task = task_of(data.samples)
    if task != "binary":
        problem = f"training.per_class: found {per_class}, but the data set has {task}, not labels "
        problem += "0 and 1; expected null"
        raise DataError("section training", [problem])
    ids = data.samples["sample_id"].to_numpy()
    ranked = sorted(rows.tolist(), key=lambda row: seed_from("per class", ids[row]))
    chosen, problems = [], []
    for label in (0, 1):
        own = [row for row in ranked if data.labels[row] == label]
        if len(own) < per_class:
            problems.append(
                f"training.per_class: found {per_class}, but the split train has {len(own)} "
                f"samples of label {label}; lower it"
            )
        chosen += own[:per_class]
    if problems:
        raise DataError("section training", problems)
    return torch.tensor(sorted(chosen))


def shuffle(samples, rows, generator):
    """`rows` in random order; the samples of a quad stay together.

    A batch of whole quads holds every image and text once with each label, so that its gradient
    carries nothing of one modality alone.
    """
    if "quad_id" not in samples:
        return rows[torch.randperm(len(rows), generator=generator)]
    units = quads(samples, rows)
    order = torch.randperm(int(units.max()) + 1, generator=generator)
    return rows[torch.argsort(order[units], stable=True)]


def unit_lengths(data, rows):
    """Number of text tokens (N,) of each row; of the longest text of its quad where it has one."""
    lengths = data.lengths[rows]
    if "quad_id" not in data.samples:
        return lengths
    units = quads(data.samples, rows)
    longest = torch.zeros(int(units.max()) + 1, dtype=lengths.dtype)
    return longest.scatter_reduce(0, units, lengths, "amax")[units]


def quads(samples, rows):
    """The quad (numbers from 0) of each row, long (N,); a row without one is one of its own."""
    chosen = samples.iloc[rows.numpy()]
    alone = chosen["quad_id"] == ""
    units = chosen["quad_id"].where(~alone, "\0" + chosen["sample_id"])
    return torch.from_numpy(units.factorize()[0])
