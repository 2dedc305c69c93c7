"""From a reading to the samples table: join, check, drop duplicates, sample, verify images."""

import json
from pathlib import Path

import pandas as pd

from ..files import seed_from
from ..table import REQUIRED, TASK_COLUMNS, DataError, group_columns, read_table
from .images import ImageGate
from .truth import ends_of, read_instances, read_truth

JOINED = ("quad_id", "cluster_id", "named_region", "word_spans")


def build_samples(
    reading,
    *,
    sample=None,
    modalities=("image", "text"),
    splits=(),
    tasks=(),
    trained=True,
    seed=0,
    gate=None,
):
    """Check a reading and turn it into the samples table.

    Parameters
    ----------
    reading : Reading
    sample : {split: {"per_class": n}} or None
        Class-balanced sampling of a split; whole quads where quad_id exists.
    modalities : the modalities that some model of the run reads: their column may not be empty
    splits : the splits that the run needs, and no other; () for any. For binary labels each
        needs both of them, else any may be empty.
    tasks : the tasks that the models of the run can learn; () for any
    trained : whether any is trained; else splits may be empty, or without labels
    seed : of the sampling
    gate : ImageGate, which then holds the facts of all images; default a new one

    Returns
    -------
    samples, truth, quality : DataFrames (quality: one row per split, with what was dropped)

    Raises
    ------
    DataError with every problem of the table at once.
    """
    gate = gate or ImageGate()
    problems = list(reading.problems)
    frame = join_groups(reading, problems)
    check_rows(frame, reading, modalities, problems)
    if not reading.problems:
        check_splits(frame, splits, reading.task, trained, problems)
        if reading.unlabelled and trained:
            problems.append(reading.unlabelled)
    if tasks and reading.task not in tasks:
        problems.append(
            f"models: none of them learns a data set of {reading.task}, only {', '.join(tasks)} "
            f"labels; set models: []"
        )
    instances = read_instances(reading.instances, problems)
    if problems:
        if reading.broken == "error":
            problems += filter(None, broken_images(frame, gate)["problem"])
        raise DataError("the data set cannot be used", problems)
    frame["label"] = frame["label"].astype(int)
    for column in ("text", "image"):  # what no model reads may be anything
        frame[column] = frame[column].where(frame[column].map(lambda v: isinstance(v, str)), "")
    own = [column for column in TASK_COLUMNS[reading.task] if column in frame]
    content = ["split", "image", "text", "label", *({"answers"} & set(own))]
    kept = frame.drop_duplicates(content).copy()
    kept["cluster_id"] = clusters(kept)
    chosen = choose(kept, sample or {}, reading.task, seed, problems)
    truth = build_truth(chosen, instances, problems)
    broken = broken_images(chosen, gate)
    faults = broken.loc[broken["problem"] != "", "problem"]
    if reading.broken == "error":
        problems += faults.tolist()
    elif len(faults) == len(chosen) > 0:
        problems.append(f"no image can be used, the first: {faults.iat[0]}")
    if problems:
        raise DataError("the data set cannot be used", problems)
    for fault in faults.unique():
        print(f"left out: {fault}")
    used = chosen.drop(faults.index)
    facts = gate.check(used["image"])
    used = used.assign(image_sha256=facts["sha256"], width=facts["width"], height=facts["height"])
    columns = [*REQUIRED, *(["quad_id"] if "quad_id" in used else []), *own, *group_columns(used)]
    quality = count_quality(reading, frame, kept, broken, used)
    truth = truth[truth["sample_id"].isin(used["sample_id"])].reset_index(drop=True)
    return used[columns].reset_index(drop=True), truth, quality


def clusters(frame):
    """What intervals resample: the cluster that is given, else the quad, the image, the text."""
    found = frame["text"]
    for column in ("image", "quad_id", "cluster_id"):
        if column in frame:
            found = frame[column].where(frame[column].fillna("") != "", found)
    return found


def class_table(reading):
    """DataFrame index, name and what else is known of each class, or answer, of a reading."""
    names = {"index": range(len(reading.classes)), "name": reading.classes}
    return pd.DataFrame({**names, **reading.class_facts})


def count_quality(reading, read, kept, broken, used):
    """One row per split: rows read, duplicates dropped, contradictions, leakage, samples used.

    read : the rows as read; kept : without duplicates; broken : of `broken_images`; used : the
    rows that are left, with image_sha256
    """
    pairs = kept.groupby(["split", "image", "text"])["label"].nunique()
    content = used["image_sha256"].where(used["image"] != "", used["text"])
    shared = used.groupby(content)["split"].transform("nunique") > 1
    rows = []
    for split in read["split"].unique():
        of_split = used["split"] == split
        labels = used.loc[of_split, "label"]
        count, unique = ((part["split"] == split).sum() for part in (read, kept))
        row = {
            "split": split,
            "rows_read": count,
            "duplicates_dropped": count - unique,
            "contradicting_pairs": (pairs[split] > 1).sum(),
            "in_other_splits": shared[of_split].sum(),
            "samples": of_split.sum(),
        }
        if reading.broken == "exclude":
            lost = broken[(kept["split"] == split).reindex(broken.index)]
            row["undecodable"] = lost["unreadable"].sum()
            row["wrong_size"] = ((lost["problem"] != "") & ~lost["unreadable"]).sum()
        if reading.task == "binary":
            row["positives"] = (labels == 1).sum()
        else:
            row["classes"] = labels[labels >= 0].nunique()
        if reading.task == "answers":
            row["outside_vocabulary"] = (labels < 0).sum()
        rows.append(row | reading.counts.get(split, {}))
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


def check_rows(frame, reading, modalities, problems):
    """Append a problem per bad id, label, text or image cell."""
    first = -1 if reading.task == "answers" or reading.unlabelled else 0
    last = len(reading.classes) - 1
    allowed = {str(number) for number in range(first, last + 1)}
    expected = "0 or 1" if reading.task == "binary" else f"a number from {first} to {last}"
    first_at = {}
    for at, sample_id, label in zip(frame["at"], frame["sample_id"], frame["label"], strict=True):
        if not sample_id:
            problems.append(f"{at}: empty id; every sample needs one")
        elif sample_id in first_at:
            problems.append(
                f"{at}: duplicate id {sample_id!r}, first in {first_at[sample_id]}; make ids unique"
            )
        first_at.setdefault(sample_id, at)
        if isinstance(label, bool) or str(label) not in allowed:
            found = f"label {json.dumps(label)} of id {sample_id!r}"
            problems.append(f"{at}: {found}; expected {expected}")
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


def check_splits(frame, splits, task, trained, problems):
    """Append a problem per split that is unknown and, for binary labels, empty or of one label."""
    if (task != "binary" or not trained) and frame.empty:
        problems.append("no samples; nothing of the data set is left to use")
    if not splits:
        return
    for split in frame["split"].unique():
        if split not in splits:
            first = frame.loc[frame["split"] == split, "at"].iat[0]
            problems.append(f"{first}: split {split!r}; expected one of {', '.join(splits)}")
    for split in splits if task == "binary" and trained else ():
        labels = {str(label) for label in frame.loc[frame["split"] == split, "label"]}
        if len(labels) < 2:
            found = f"only label {labels.pop()}" if labels else "no samples"
            problems.append(f"split {split}: {found}; training and evaluation need both labels")


def choose(frame, sample, task, seed, problems):
    """The sampled rows, in table order.

    Rows (or quads) are taken in the order of a hash of their id, so that the choice does not
    depend on the order of the file.
    """
    if sample and task != "binary":
        problems.append(f"sample: draws equally many of labels 0 and 1; this data set has {task}")
        return frame
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


def broken_images(frame, gate):
    """What is wrong with the image of each row, with the file and line that names it first.

    Returns
    -------
    DataFrame problem ("" if nothing is), unreadable (bool: missing or not decodable, rather than
    of another size than its annotations say)
    """
    paths = frame["image"].where(frame["image"].map(lambda value: isinstance(value, str)), "")
    facts = gate.check(paths)
    rows, first_at = [], {}
    annotated = frame.get("image_size", pd.Series(index=frame.index, dtype=object))
    for at, path, size, fact in zip(frame["at"], paths, annotated, facts.itertuples(), strict=True):
        problem = fact.problem
        if not problem and isinstance(size, tuple) and size != (fact.width, fact.height):
            found, expected = f"{fact.width}x{fact.height}", "x".join(map(str, size))
            problem = f"has {found} pixels, its annotations are of {expected}; replace the file"
        at = first_at.setdefault(path, at)
        rows.append((f"{at}: image {path} {problem}" if problem else "", bool(fact.problem)))
    return pd.DataFrame(rows, columns=["problem", "unreadable"], index=frame.index)


def build_truth(samples, instances, problems):
    """The truth table of the samples; empty where the data set has no instances."""
    known = "named_region" in samples
    named = dict(zip(samples["sample_id"], samples["named_region"], strict=True)) if known else None
    spans = dict(zip(samples["sample_id"], samples.get("word_spans", []), strict=False))
    return read_truth(samples, instances, named, spans, problems)
