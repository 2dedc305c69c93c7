"""Arrays of many images in memory-mapped shards on disk, each image written once."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from ..files import atomic, write_json
from ..table import DataError, write_parquet


class ShardStore:
    """A folder of shards that only grows.

    settings.json says what the contents depend on. Shard k consists of k.<array>.npy (n, ...),
    one file per array, and k.parquet with the n keys, which is written last: a shard without it
    does not exist, so a kill loses no more than the shard that was being written.

    Parameters
    ----------
    folder : path
    settings : dict that the contents depend on; DataError if the folder was made with another
    """

    def __init__(self, folder, settings):
        self.folder = Path(folder)
        path = self.folder / "settings.json"
        # As JSON reads it back: tuples become lists.
        settings = json.loads(json.dumps(settings))
        if not path.is_file():
            write_json(path, settings, indent=1)
        found = json.loads(path.read_text(encoding="utf-8"))
        if found != settings:
            raise DataError(
                "features", [f"{path}: found {found}, expected {settings}; delete the folder"]
            )

    def index(self):
        """DataFrame with key, shard (int) and row of every stored item."""
        parts = [
            pd.read_parquet(path).assign(shard=int(path.stem))
            for path in sorted(self.folder.glob("[0-9]*.parquet"))
        ]
        if not parts:
            return pd.DataFrame({"key": [], "row": [], "shard": []})
        return pd.concat(parts, ignore_index=True).drop_duplicates("key")

    def add(self, keys, arrays):
        """Write one more shard: `keys` (n strings) and {name: array (n, ...)}; its number."""
        numbers = [int(path.stem) for path in self.folder.glob("[0-9]*.parquet")]
        shard = max(numbers, default=-1) + 1
        for name, array in arrays.items():
            path = self.folder / f"{shard:05d}.{name}.npy"
            # Opened here, since np.save would append a suffix to a path.
            with atomic(path) as temporary, open(temporary, "wb") as handle:
                np.save(handle, array, allow_pickle=False)
        rows = pd.DataFrame({"key": keys, "row": range(len(keys))})
        write_parquet(self.folder / f"{shard:05d}.parquet", rows)
        return shard

    def array(self, shard, name):
        """One array of a shard, memory-mapped; None if the shard has no such array."""
        return read_shard(self.folder, shard, name)


def read_shard(folder, shard, name):
    """The array `name` (n, ...) of a shard, memory-mapped read-only; None if there is none."""
    path = Path(folder) / f"{shard:05d}.{name}.npy"
    return np.load(path, mmap_mode="r", allow_pickle=False) if path.is_file() else None


def gather(folder, shards, rows, name):
    """Rows of an array that lie in several shards, in the order asked: (n, ...), in memory.

    shards, rows : int arrays (n,)
    """
    found = None
    for shard in np.unique(shards):
        array = read_shard(folder, shard, name)
        if array is None:
            return None
        if found is None:
            found = np.empty((len(rows), *array.shape[1:]), array.dtype)
        here = shards == shard
        found[here] = array[rows[here]]
    return found
