"""Shards of the explained samples: whole blocks, which are what passes through a model together.

So results are the same to the last bit for any number of shards.
"""

import pandas as pd


def shard_rows(count, block, shard, shards):
    """Range of the rows that a shard explains: whole blocks of `block` rows, in table order.

    shard : its number, from 0; the last ones of more shards than blocks are empty
    """
    blocks = -(-count // block)
    first, last = (blocks * k // shards for k in (shard, shard + 1))
    return range(min(first * block, count), min(last * block, count))


def join_shards(frames):
    """One frame of those of all shards in order, of which some may be empty."""
    return pd.concat([frame for frame in frames if len(frame)], ignore_index=True)
