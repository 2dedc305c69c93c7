"""From a reading to the samples table: join, check, drop duplicates, sample, verify images."""

import json
from pathlib import Path

import pandas as pd
from PIL import Image

from ..files import seed_from, sha256_file
from ..table import REQUIRED, DataError, group_columns, read_table
from .truth import ends_of, read_instances, read_truth

# A decompression bomb is an error of the data, not a reason to run out of memory.
MAX_PIXELS = 64_000_000
JOINED = ("quad_id", "cluster_id", "named_region", "word_spans")


def build_samples(reading, *, sample=None, modalities=("image", "text"), splits=(), seed=0):
    """Check a reading and turn it into the samples table.

    Parameters
    ----------
    reading : Reading
    sample : {split: {"per_class": n}} or None
        Class-balanced sampling of a split; whole quads where quad_id exists.
    modalities : the modalities that some model of the run reads: their column may not be empty
    splits : the splits that the run needs, each with both labels, and no other; () for any
    seed : of the sampling

    Returns
    -------
    samples, truth, quality : DataFrames (quality: one row per split, with what was dropped)

    Raises
    ------
    DataError with every problem of the table at once.
    """
    problems = list(reading.problems)
    frame = join_groups(reading, problems)
    check_rows(frame, modalities, problems)
    if splits and not reading.problems:
        check_splits(frame, splits, problems)
    instances = read_instances(reading.instances, problems)
    if problems:
        verify_images(frame, problems)
        raise DataError("the data set cannot be used", problems)
    frame["label"] = frame["label"].astype(int)
    for column in ("text", "image"):  # what no model reads may be anything
        frame[column] = frame[column].where(frame[column].map(lambda v: isinstance(v, str)), "")
    kept = frame.drop_duplicates(["split", "image", "text", "label"]).copy()
    if "cluster_id" not in kept:
        kept["cluster_id"] = kept["image"].where(kept["image"] != "", kept["text"])
    chosen = choose(kept, sample or {}, seed, problems)
    truth = build_truth(chosen, instances, problems)
    facts = verify_images(chosen, problems)
    if problems:
        raise DataError("the data set cannot be used", problems)
    chosen = chosen.join(facts)
    columns = [*REQUIRED, *(["quad_id"] if "quad_id" in chosen else []), *group_columns(chosen)]
    quality = count_quality(frame, kept, chosen)
    return chosen[columns].reset_index(drop=True), truth, quality


def count_quality(read, kept, chosen):
    """One row per split: rows read, duplicates dropped, contradictions, leakage, samples used.

    read : the rows as read; kept : without duplicates; chosen : sampled, with image_sha256
    """
    pairs = kept.groupby(["split", "image", "text"])["label"].nunique()
    content = chosen["image_sha256"].where(chosen["image"] != "", chosen["text"])
    shared = chosen.groupby(content)["split"].transform("nunique") > 1
    rows = []
    for split in read["split"].unique():
        of_split = chosen["split"] == split
        count, unique = ((part["split"] == split).sum() for part in (read, kept))
        rows.append(
            {
                "split": split,
                "rows_read": count,
                "duplicates_dropped": count - unique,
                "contradicting_pairs": (pairs[split] > 1).sum(),
                "in_other_splits": shared[of_split].sum(),
                "samples": of_split.sum(),
                "positives": chosen.loc[of_split, "label"].sum(),
            }
        )
    return pd.DataFrame(rows)


def join_groups(reading, problems):
    """The reading's rows with the columns of its group table, if it has one."""
    frame = reading.samples.copy()
    if not reading.groups:
        return frame
    path, on = reading.groups["table"], reading.groups["on"]
    if not Path(path).is_file():
        problems.append(f"{path}: no such file (dataset.groups.table)")
        return frame
    try:
        table = read_table(path)
    except DataError as error:
        problems += error.problems
        return frame
    key = "sample_id" if on == "sample_id" else "image"
    columns = [c for c in table.columns if c.startswith("group_") or c in JOINED]
    if key not in table or not columns:
        found = ", ".join(table.columns)
        problems.append(f"{path}: needs a column {key} and at least one group_*; found {found}")
        return frame
    for value in table.loc[table[key].duplicated(), key].unique():
        problems.append(f"{path}: {key} {value!r} occurs more than once; keep one row of each")
    table = table.drop_duplicates(key).set_index(key)[columns]
    keys = frame["sample_id"] if key == "sample_id" else frame["image"].map(matching(table.index))
    for at, value in zip(frame["at"], keys, strict=True):
        if value not in table.index:
            problems.append(f"{at}: {key} {value!r} has no row in {path}; add it")
    return frame.drop(columns=columns, errors="ignore").join(table, on=keys.rename(key))


def matching(names):
    """Maps an image path to the name a group table uses for it: the whole path or its end."""
    known = set(names)

    def match(path):
        return next((end for end in (path, *ends_of(path)) if end in known), path)

    return match


def check_rows(frame, modalities, problems):
    """Append a problem per bad id, label, text or image cell."""
    first_at = {}
    for at, sample_id, label in zip(frame["at"], frame["sample_id"], frame["label"], strict=True):
        if not sample_id:
            problems.append(f"{at}: empty id; every sample needs one")
        elif sample_id in first_at:
            problems.append(
                f"{at}: duplicate id {sample_id!r}, first in {first_at[sample_id]}; make ids unique"
            )
        first_at.setdefault(sample_id, at)
        if isinstance(label, bool) or str(label) not in ("0", "1"):
            problems.append(f"{at}: label {json.dumps(label)} of id {sample_id!r}; expected 0 or 1")
    for column in ("text", "image"):
        if column in modalities:
            for at, sample_id, value in zip(
                frame["at"], frame["sample_id"], frame[column], strict=True
            ):
                if not isinstance(value, str) or not value.strip():
                    problems.append(
                        f"{at}: empty {column} of id {sample_id!r} ({json.dumps(value)}); fill it, "
                        f"or run only models that do not read the {column}"
                    )


def check_splits(frame, splits, problems):
    """Append a problem per split that is unknown, empty or of one label."""
    for split in frame["split"].unique():
        if split not in splits:
            first = frame.loc[frame["split"] == split, "at"].iat[0]
            problems.append(f"{first}: split {split!r}; expected one of {', '.join(splits)}")
    for split in splits:
        labels = {str(label) for label in frame.loc[frame["split"] == split, "label"]}
        if len(labels) < 2:
            found = f"only label {labels.pop()}" if labels else "no samples"
            problems.append(f"split {split}: {found}; training and evaluation need both labels")


def choose(frame, sample, seed, problems):
    """The sampled rows, in table order.

    Rows (or quads) are taken in the order of a hash of their id, so that the choice does not
    depend on the order of the file.
    """
    parts = []
    for split, rows in frame.groupby("split", sort=False):
        wanted = (sample.get(split) or {}).get("per_class")
        parts.append(rows if wanted is None else balanced(rows, wanted, split, seed, problems))
    for split in sample:
        if split not in set(frame["split"]):
            found = ", ".join(frame["split"].unique())
            problems.append(f"sample.{split}: the data set has no such split; found {found}")
    return pd.concat(parts).sort_index() if parts else frame


def balanced(rows, wanted, split, seed, problems):
    """`wanted` rows of each label: whole quads where there are quads."""
    if "quad_id" in rows and (rows["quad_id"] != "").all():
        sizes = rows.groupby("quad_id")["label"].agg(["size", "sum"])
        whole = sizes[(sizes["size"] == 4) & (sizes["sum"] == 2)].index
        if wanted % 2 or len(whole) * 2 < wanted:
            problems.append(
                f"sample.{split}.per_class: {wanted} asked; a quad has 2 of each label and there "
                f"are {len(whole)} whole quads, so ask for an even number up to {2 * len(whole)}"
            )
            return rows
        order = sorted(whole, key=lambda quad: seed_from("sample", seed, quad))
        return rows[rows["quad_id"].isin(order[: wanted // 2])]
    taken = []
    for label in (0, 1):
        of_label = rows[rows["label"] == label]
        if len(of_label) < wanted:
            problems.append(
                f"sample.{split}.per_class: {wanted} asked, label {label} has {len(of_label)}; "
                f"ask for at most that"
            )
        keys = of_label["sample_id"].map(lambda name: seed_from("sample", seed, name))
        taken += keys.sort_values().index[:wanted].tolist()
    return rows.loc[sorted(taken)]


def verify_images(frame, problems):
    """Decode every image once; returns image_sha256, width and height per row of `frame`."""
    known = {"": ("", 0, 0)}
    for at, path in zip(frame["at"], frame["image"], strict=True):
        if isinstance(path, str) and path not in known:
            known[path] = ("", 0, 0)
            try:
                known[path] = read_facts(path)
            except FileNotFoundError:
                problems.append(
                    f"{at}: image {path} is missing; download it or correct dataset.root"
                )
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                problems.append(f"{at}: image {path} cannot be decoded ({error}); replace the file")
    facts = [known.get(path, known[""]) for path in frame["image"]]
    return pd.DataFrame(facts, columns=["image_sha256", "width", "height"], index=frame.index)


def read_facts(path):
    """(SHA-256, width, height) of an image file that decodes to the end."""
    with Image.open(path) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ValueError(f"{width}x{height} pixels, at most {MAX_PIXELS} are read")
        image.load()
    return sha256_file(path), width, height


def build_truth(samples, instances, problems):
    """The truth table of the samples; empty where the data set has no instances."""
    named = dict(zip(samples["sample_id"], samples.get("named_region", []), strict=False))
    spans = dict(zip(samples["sample_id"], samples.get("word_spans", []), strict=False))
    return read_truth(samples, instances, named, spans, problems)
