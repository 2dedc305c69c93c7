"""The estimate of what a capture takes, by which samples are divided among captures."""

import gc

import pytest
import torch
from stock_checkpoints import save_clip, save_vilt
from stock_samples import read_stock

from mmlens.explanation.capture import capture
from mmlens.explanation.memory import capture_bytes, captured_together

TEXTS = ["word1 word2", "word1 word2 word3 word4 word5 word6", "word3", "word2 word1 word4"]


@pytest.fixture(params=[("vilt", save_vilt), ("clip", save_clip)], ids=["vilt", "clip"])
def loaded(request, tmp_path):
    name, save = request.param
    save(tmp_path / name)
    return read_stock(name, tmp_path / name, TEXTS)


def test_the_estimate_grows_with_samples_and_holds_all_maps(loaded):
    model, data = loaded
    one = data.batch(torch.tensor([1]))
    two = data.batch(torch.tensor([1, 1]))
    alone, both = capture_bytes(model, one), capture_bytes(model, two)
    assert both == pytest.approx(2 * alone, rel=0.05)
    seen = capture(model, one, ["a"], torch.tensor([True]))
    heads = 2  # of all layers of the small checkpoints
    maps = sum(found.attention.nbytes * heads for found in seen.maps)
    assert alone > 2 * maps


def test_an_estimate_leaves_nothing_behind(loaded):
    model, data = loaded
    batch = data.batch(torch.tensor([1]))

    def tensors():
        gc.collect()
        return sum(isinstance(found, torch.Tensor) for found in gc.get_objects())

    capture_bytes(model, batch)
    before = tensors()
    capture_bytes(model, batch)
    assert tensors() == before


def test_captures_are_as_large_as_fit_and_never_empty(loaded):
    model, data = loaded
    needed = capture_bytes(model, data.batch(torch.tensor([1])))  # the longest text

    def sizes(samples, batch_size):
        memory = samples * needed / 2**20
        batches = (data.batch(rows) for rows in torch.arange(4).split(batch_size))
        return [len(part) for own in batches for part in captured_together(model, own, memory)]

    assert sizes(50.5, 50) == [4]
    assert sizes(50.5, 3) == [3, 1]
    assert sizes(2.5, 4) == sizes(3.5, 4) == [2, 2]
    assert sizes(2.5, 3) == [2, 1, 1]
    assert sizes(0.5, 4) == [1, 1, 1, 1]
