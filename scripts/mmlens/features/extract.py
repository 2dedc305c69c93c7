"""Features of all images of a run: decoded in threads while the extractor computes."""

import hashlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from tqdm import tqdm

from ..datasets.images import open_rgb
from ..files import stable_hash
from ..table import DataError
from .boxes import patch_boxes
from .store import ShardStore, gather

AHEAD = 2  # batches that are decoded while one is computed


def extract(samples, extractor, *, cache, dtype, shard, batch_size, threads, keep_decoded, device):
    """Compute the features that the cache does not hold yet, and say where all of them are.

    Parameters
    ----------
    samples : DataFrame with image, image_sha256, width, height; images may repeat
    extractor : Extractor
    cache : folder that all runs share
    dtype : "float16" or "float32", of the stored features
    shard : images per shard, the most that a kill can lose
    threads : that decode images
    keep_decoded : whether to keep the resized images for the next extractor of equal geometry

    Returns
    -------
    index : DataFrame, one row per image: image, image_sha256, shard, row
    facts : dict with folder, settings, width, tokens, grid

    Raises
    ------
    DataError naming every image that changed since the samples table was built.
    """
    settings = {**extractor.describe(), "dtype": dtype}
    folder = Path(cache) / f"{extractor.name}-{stable_hash(settings)}"
    images = samples.drop_duplicates("image")
    images = images[images["image"] != ""]
    folder.mkdir(parents=True, exist_ok=True)
    # Two runs may want the same features at once; the second finds what the first computed.
    with FileLock(folder / "lock"), torch.inference_mode():
        store = ShardStore(folder, settings)
        known = set(store.index()["key"])
        wanted = images.assign(key=extractor.keys(images))
        wanted = wanted[~wanted["key"].isin(known)].drop_duplicates("key")
        extractor.to(device)
        chunks = [wanted[start : start + shard] for start in range(0, len(wanted), shard)]
        with (
            Writer() as writer,
            tqdm(total=len(wanted), desc=extractor.name, mininterval=5, ascii=True) as progress,
        ):
            source = Decoder(extractor, cache, threads, keep_decoded, writer)
            for chunk in chunks:
                arrays = compute(extractor, source, chunk, batch_size, device, progress)
                if not source.problems:
                    if "features" in arrays:
                        arrays["features"] = stored(arrays["features"], dtype)
                    writer.submit(store.add, chunk["key"].tolist(), arrays)
        if source.problems:
            raise DataError("features", source.problems)
        index = images.assign(key=extractor.keys(images)).merge(store.index(), on="key")
    facts = {
        "folder": str(folder),
        "settings": settings,
        "tokens": extractor.tokens,
        "width": extractor.width,
        "grid": extractor.grid,
    }
    print(f"{extractor.name}: {len(wanted)} of {len(images)} images computed, the rest was cached")
    return index[["image", "image_sha256", "shard", "row"]], facts


def stored(features, dtype):
    """Features as `dtype`; DataError if a value is not finite or too large for it."""
    with np.errstate(over="ignore"):
        features = features.astype(dtype)
    if not np.isfinite(features).all():
        raise DataError(
            "features", [f"a value is not finite as {dtype}; set features.dtype: float32"]
        )
    return features


def compute(extractor, source, chunk, batch_size, device, progress):
    """Arrays of one shard: features, boxes, valid and what else the extractor gives.

    After the first image that cannot be read nothing is computed; the rest is only checked.
    """
    parts = []
    for rows, batch in source.batches(chunk, batch_size):
        if isinstance(batch, torch.Tensor):
            batch = batch.to(device)
        names = [rows["image"].tolist()] if extractor.reads_names else []
        arrays = extractor.extract(batch, *names)
        count = len(rows)
        if extractor.grid:
            arrays["boxes"] = grid_boxes(extractor, rows)
            arrays["valid"] = np.ones((count, extractor.tokens), bool)
        parts.append(arrays)
        progress.update(count)
    if source.problems:
        return {}
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def grid_boxes(extractor, rows):
    """Boxes (n, N, 4) of the patches of images, from the original size of each."""
    windows = [
        extractor.geometry.window(w, h) for w, h in zip(rows["width"], rows["height"], strict=True)
    ]
    return np.stack([patch_boxes(extractor.grid, window) for window in windows])


class Writer:
    """Writes one shard after the other in a thread of its own, while the next is computed."""

    def __enter__(self):
        self.pool, self.pending = ThreadPoolExecutor(1), []
        return self

    def submit(self, function, *arguments):
        """Run `function` after what was submitted before; at most one waits, to save memory."""
        while len(self.pending) > 1:
            self.pending.pop(0).result()
        self.pending.append(self.pool.submit(function, *arguments))

    def __exit__(self, *_error):
        self.pool.shutdown()
        for write in self.pending:
            write.result()


class Decoder:
    """Images as the extractor wants them, from kept decoded shards or from their files.

    problems : list of str, images that could not be read
    """

    def __init__(self, extractor, cache, threads, keep, writer):
        self.extractor, self.threads, self.writer = extractor, threads, writer
        self.store, self.problems = None, []
        if keep and extractor.geometry:
            described = extractor.describe()
            settings = {"geometry": described["geometry"], "backend": described["backend"]}
            folder = Path(cache) / f"decoded-{stable_hash(settings)}"
            folder.mkdir(parents=True, exist_ok=True)
            self.store = ShardStore(folder, settings)

    def batches(self, chunk, batch_size):
        """Yield (rows, batch) of consecutive rows of `chunk`; see Extractor.extract for batch."""
        if not self.extractor.reads_images:
            for start in range(0, len(chunk), batch_size):
                rows = chunk[start : start + batch_size]
                yield rows, rows["image"].tolist()
            return
        kept = self.kept(chunk)
        if kept is not None:
            for start in range(0, len(chunk), batch_size):
                yield (
                    chunk[start : start + batch_size],
                    torch.from_numpy(kept[start : start + batch_size]),
                )
            return
        yield from self.decode(chunk, batch_size)

    def kept(self, chunk):
        """uint8 (n, 3, height, width) of the chunk if all of it was kept, else None."""
        if self.store is None:
            return None
        with FileLock(self.store.folder / "lock"):
            places = self.store.index().set_index("key").reindex(chunk["image_sha256"])
        if places["row"].isna().any():
            return None
        return gather(
            self.store.folder,
            places["shard"].to_numpy(int),
            places["row"].to_numpy(int),
            "pixels",
        )

    def decode(self, chunk, batch_size):
        """Decode batches ahead of the caller in threads; keep the result where that is wanted."""
        decoded = []
        chunks = [chunk[k : k + batch_size] for k in range(0, len(chunk), batch_size)]
        with ThreadPoolExecutor(self.threads) as pool:
            waiting = deque()
            try:
                for position in range(len(chunks) + AHEAD):
                    if position < len(chunks):
                        rows = chunks[position]
                        loads = [
                            pool.submit(self.load, path, digest)
                            for path, digest in zip(
                                rows["image"], rows["image_sha256"], strict=True
                            )
                        ]
                        waiting.append((rows, loads))
                    if position >= AHEAD:
                        rows, loads = waiting.popleft()
                        batch = self.collect(rows["image"], loads)
                        if not self.problems:
                            decoded.append(batch)
                            yield rows, batch
            finally:
                pool.shutdown(cancel_futures=True)
        if self.store is not None and not self.problems:
            self.writer.submit(self.keep, chunk["image_sha256"], decoded)

    def keep(self, keys, decoded):
        """Write decoded batches as one shard, but for the images that were kept before."""
        with FileLock(self.store.folder / "lock"):
            new = ~keys.isin(self.store.index()["key"]).to_numpy()
            pixels = np.concatenate([batch.numpy() for batch in decoded])
            self.store.add(keys[new].tolist(), {"pixels": pixels if new.all() else pixels[new]})

    def load(self, path, digest):
        """One image file as uint8 array (3, H, W), if it is still the file of the samples table."""
        content = Path(path).read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise ValueError("changed since the samples table was built")
        image = open_rgb(BytesIO(content))
        if self.extractor.geometry:
            return self.extractor.geometry.apply(image)
        return np.asarray(image).transpose(2, 0, 1)

    def collect(self, paths, loads):
        """The batch of finished loads; what went wrong is appended to `problems`."""
        arrays = []
        for path, load in zip(paths, loads, strict=True):
            try:
                arrays.append(load.result())
            except Exception as error:  # Pillow raises many kinds for broken files
                problem = f"{path}: {error}; run snakemake --forcerun build_samples"
                self.problems.append(problem)
        tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
        return torch.stack(tensors) if self.extractor.geometry and not self.problems else tensors
