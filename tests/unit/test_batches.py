"""Which samples meet in a batch: quads together, lengths alike, and chance besides."""

import numpy as np
import pandas as pd
import pytest
import torch

from mmlens.training.batches import WINDOW, epoch_batches, shuffle


class Samples:
    """What `epoch_batches` asks of EncodedSamples."""

    def __init__(self, lengths, quad=0):
        self.lengths = torch.as_tensor(lengths)
        self.samples = pd.DataFrame({"sample_id": map(str, range(len(lengths)))})
        if quad:
            self.samples["quad_id"] = np.arange(len(lengths)) // quad


@pytest.fixture
def lengths():
    return torch.randint(4, 60, (1003,), generator=torch.Generator().manual_seed(0))


def batches_of(data, epoch=0, buckets=True, size=8):
    generator = torch.Generator().manual_seed(epoch)
    keys = {"batch_size": size, "buckets": buckets}
    return epoch_batches(data, torch.arange(len(data.lengths)), keys, generator)


def padded(data, batches):
    """Share of the tokens that are padding."""
    tokens = sum(len(b) * int(data.lengths[b].max()) for b in batches)
    return 1 - int(data.lengths.sum()) / tokens


def test_quads_stay_together_and_order_changes_per_epoch():
    rows, samples = torch.arange(48), Samples([5] * 48, quad=4).samples
    orders = [shuffle(samples, rows, torch.Generator().manual_seed(e)) for e in (0, 1)]
    for order in orders:
        assert sorted(order.tolist()) == rows.tolist()
        quads = samples["quad_id"].to_numpy()[order.numpy()].reshape(-1, 4)
        assert (quads == quads[:, :1]).all()
    assert orders[0].tolist() != orders[1].tolist()


def test_rows_without_a_quad_are_shuffled_one_by_one():
    samples = Samples([5] * 48, quad=4).samples
    samples["quad_id"] = samples["quad_id"].astype(str).where(samples.index < 24, "")
    order = shuffle(samples, torch.arange(48), torch.Generator().manual_seed(0)).numpy()
    alone = np.flatnonzero(order >= 24)
    assert order[alone].tolist() != sorted(order[alone])
    assert np.diff(alone).max() > 1
    for quad in range(6):
        assert np.ptp(np.flatnonzero(order // 4 == quad)) == 3


def test_every_sample_is_in_one_batch_of_full_size_but_one(lengths):
    batches = batches_of(Samples(lengths))
    assert sorted(torch.cat(batches).tolist()) == list(range(1003))
    assert sorted(map(len, batches)) == [3] + [8] * 125


def test_buckets_save_nearly_all_padding(lengths):
    data = Samples(lengths)
    assert padded(data, batches_of(data, buckets=False)) > 0.35
    assert padded(data, batches_of(data)) < 0.1


def test_neighbours_order_and_lengths_of_batches_change_per_epoch(lengths):
    data = Samples(lengths)
    first, again, second = (batches_of(data, epoch) for epoch in (0, 0, 1))
    assert [b.tolist() for b in first] == [b.tolist() for b in again]
    met = [{frozenset(b.tolist()) for b in batches} for batches in (first, second)]
    assert not met[0] & met[1]
    # Batches do not come from short to long: neither over the epoch nor over a window.
    mean = pd.Series([float(data.lengths[b].float().mean()) for b in first])
    assert abs(mean.autocorr(1)) < 0.3
    assert abs(mean.corr(pd.Series(range(len(mean)), dtype=float))) < 0.3


def test_rows_of_equal_length_meet_as_without_buckets():
    """Sorting is stable, so that only the order of the batches differs."""
    data = Samples([7] * 64)
    with_buckets = {tuple(b.tolist()) for b in batches_of(data)}
    assert with_buckets == {tuple(b.tolist()) for b in batches_of(data, buckets=False)}


def test_buckets_keep_quads_together(lengths):
    data = Samples(lengths[:1000], quad=4)
    for batch in batches_of(data):
        quads = data.samples["quad_id"].to_numpy()[batch.numpy()].reshape(-1, 4)
        assert (quads == quads[:, :1]).all()
    assert padded(data, batches_of(data)) < padded(data, batches_of(data, buckets=False))


def test_a_window_is_sorted_by_the_longest_text_of_a_quad():
    count = WINDOW * 8
    lengths = torch.full((count,), 5)
    lengths[3::8] = 50  # one long text in every other quad
    data = Samples(lengths, quad=4)
    longest = [int(data.lengths[b].max()) for b in batches_of(data)]
    assert sorted(longest) == [5] * (WINDOW // 2) + [50] * (WINDOW // 2)
