"""All requested methods on all requested samples, as rows of the attributions table."""

import json

import numpy as np
import pandas as pd
import torch

from ..features.boxes import patch_boxes
from ..files import seed_from
from ..models.base import Tokens
from ..table import DataError
from . import METHODS, NotApplicableError
from .capture import capture
from .maps import Maps
from .memory import captured_together
from .words import word_numbers

COLUMNS = ["sample_id", "method", "draw", "target", "image", "grid_rows", "grid_columns", "boxes"]
COLUMNS += ["tokens", "text", "words", "flags", "facts"]


def explain(model, data, predicted, *, batch_size, device, **options):
    """Attributions of all samples of `data`.

    Parameters
    ----------
    model : Model in eval mode
    data : EncodedSamples of N samples
    predicted : bool tensor (N,), the predicted class, which is the one explained; for a model of
        many answers long (N,), their numbers
    batch_size : samples at a time
    options : of `explain_block`

    Returns
    -------
    DataFrame, one row per sample, method and draw: sample_id, method, draw, target (class),
    image (list over patches, row by row, with grid_rows and grid_columns, or over regions, with
    boxes: x1 y1 x2 y2 of each as shares of the image, one after the other), tokens (words, or
    pieces of them), text (list over tokens), words (list over tokens: number of the word that each
    is of), flags (see `flags`), facts (JSON {modality: {name: number}} of what a method says of how
    well its map is defined, "" of most). A modality the model does not read has empty lists.

    A method that is not applicable to the model has no rows; attrs["not_applicable"], which a
    Parquet file keeps, is {method: why}.
    """
    records, missing = [], {}
    for rows in torch.arange(len(data)).split(batch_size):
        batch = data.batch(rows, device)
        own, unknown, *_ = explain_block(model, data, predicted, rows, batch, **options)
        records += own
        missing |= unknown
    return attributions_table(records, missing)


def attributions_table(records, missing):
    """The DataFrame of `explain`, without the rows of methods that turned out not applicable."""
    kept = [record for record in records if record["method"] not in missing]
    frame = pd.DataFrame(kept, columns=COLUMNS)
    frame.attrs["not_applicable"] = missing
    return frame


def explain_block(
    model,
    data,
    predicted,
    rows,
    batch,
    *,
    methods,
    draws,
    memory=2000,
    layers=None,
    arguments=None,
):
    """Attributions of one batch, with its tokens and logits, where a perturbation test starts.

    Parameters
    ----------
    model, data, predicted : of `explain`
    rows : long (B,), the samples; batch : their Batch, with an image of its own for each
    methods : names of the registry
    draws : number of random orders; the other methods have one draw
    memory : samples go through the model together as far as they take no more than so many MB
    layers : {modality: module path} for Grad-CAM, or None for the model's own choice
    arguments : {method: keyword arguments}, of methods that have some

    Returns
    -------
    records, missing : of `attributions_table`: dicts of COLUMNS, and {method: why}
    tokens : {modality: Tokens} at the model's input
    logits : (B,) of label 1, or (B, C)
    """
    records, missing, arguments = [], {}, arguments or {}
    asked = needs_of(methods, arguments)
    tokens, logits = [], []
    for part in captured_together(model, batch, memory):
        chosen = rows[part]
        target = predicted[chosen].to(batch.input_ids.device)
        ids = data.samples["sample_id"].iloc[chosen.numpy()].tolist()
        seen = capture(model, batch.rows(part), ids, target, layers, **asked)
        tokens.append(seen.tokens)
        logits.append(seen.logits)
        boxes = image_boxes(seen, data, chosen)
        for name in methods:
            for draw in range(draws if name == "random" else 1):
                try:
                    found = method_maps(name, seen, arguments, draw)
                except NotApplicableError as reason:
                    missing[name] = str(reason)
                    break
                own = {"method": name, "draw": draw}
                records += [
                    {"sample_id": ids[k], **own, "target": int(target[k])}
                    | relevance_of(seen, data, found, boxes, k, row)
                    for k, row in enumerate(chosen.tolist())
                ]
    joined = {m: Tokens.join([own[m] for own in tokens]) for m in model.modalities}
    return records, missing, joined, torch.cat(logits)


def needs_of(methods, arguments):
    """Keyword arguments of `capture`: what these methods ask it to keep.

    arguments : {method: its keyword arguments}
    """
    # Methods that are a function of another one's maps may name it as their argument.
    named = [arguments.get(name, {}).get("method") for name in methods]
    called = [*methods, *(name for name in named if name is not None)]
    needs = {
        what: any(METHODS.attribute(name, what, False) for name in called)
        for what in ("readouts", "pixels")
    }
    heads = any(arguments.get(name, {}).get("head") is not None for name in called)
    return {**needs, "heads": heads}


def method_maps(name, seen, arguments, draw=0):
    """Maps of a method: those that it returns, checked, and 0 at special and padding tokens.

    name : of the registry; seen : Capture; arguments : {method: its keyword arguments}
    draw : number of a random order

    Raises
    ------
    NotApplicableError, as the method does; ValueError if it does not return one finite number for
    every token of every modality that the model reads.
    """
    options = {"draw": draw} if name == "random" else dict(arguments.get(name, {}))
    if METHODS.attribute(name, "of_another", False):
        options["arguments"] = arguments
    found = METHODS.get(name)(seen, **options)
    shapes = {m: tuple(values.shape) for m, values in found.items()}
    expected = {m: tuple(content.shape) for m, content in seen.layout.content.items()}
    if shapes != expected:
        raise ValueError(
            f"method {name}: returned {shapes}, expected {expected} (samples, tokens), special "
            "and padding ones included; raise NotApplicableError where it has no map of a modality"
        )
    shown = {m: torch.where(content, found[m], 0) for m, content in seen.layout.content.items()}
    for modality, values in shown.items():
        undefined = ~values.isfinite().all(1)
        if undefined.any():
            first = seen.sample_ids[int(undefined.nonzero()[0])]
            raise ValueError(
                f"method {name}: {modality} of {int(undefined.sum())} of {len(values)} samples, "
                f"the first {first}: found numbers that are not finite, which have no order; are "
                "those of the model? Else raise NotApplicableError, or return 0 there"
            )
    own = found if isinstance(found, Maps) else Maps()
    return Maps(shown, own.flags, own.facts)


def relevance_of(seen, data, found, boxes, k, row):
    """Columns of the attributions table that hold the maps of one sample.

    seen : Capture; found : Maps of one method; boxes : of `image_boxes`; k : number of the sample
    in the capture; row : that in `data`
    """
    content = {m: c[k].cpu().numpy() for m, c in seen.layout.content.items()}
    maps = {m: values[k].detach().cpu().numpy()[content[m]] for m, values in found.items()}
    own = {m: maps.get(m, np.zeros(0)) for m in ("image", "text")}
    rows, columns = seen.layout.grid or (0, 0)
    reads = "text" in content
    return {
        "image": own["image"].astype(np.float32),
        "grid_rows": rows,
        "grid_columns": columns,
        "boxes": own_boxes(boxes, content, k),
        "tokens": data.words(row)[0] if reads else [],
        "text": own["text"].astype(np.float32),
        "words": word_numbers(data, row) if reads else [],
        "flags": flags(own, found, k),
        "facts": facts(found, k),
    }


def image_boxes(seen, data, rows):
    """Boxes (B, N, 4) of the image tokens, as shares of the image, or None.

    None where they are the cells of a grid over the whole image; where the model's geometry cuts
    out a part of the image, they are the cells of a grid over that part.
    """
    if seen.boxes is not None:
        return seen.boxes.cpu().numpy()
    geometry = data.spec.geometry
    if geometry is None or geometry.shortest_edge is None or seen.layout.grid is None:
        return None
    facts = data.samples.iloc[rows.numpy()]
    sizes = zip(facts["width"], facts["height"], strict=True)
    return np.stack([patch_boxes(seen.layout.grid, geometry.window(*size)) for size in sizes])


def own_boxes(boxes, content, k):
    """Boxes of sample k's regions as one flat list; empty where the tokens are a grid's patches.

    content : {modality: bool (N,)} of the sample
    """
    if boxes is None:
        return np.zeros(0, np.float32)
    shown = content["image"]
    # A class token, if there is one, comes before the regions and has no box.
    return boxes[k][shown[len(shown) - len(boxes[k]) :]].ravel()


def flags(relevance, found, k):
    """Why the maps of sample k mean nothing, by modality and separated by "; "; "" where they do.

    "<modality> constant" for every map of more than one token that has one value only, so that
    its order means nothing; and what the method itself says, such as "text 3 tokens".
    """
    own = [f"{modality} {texts[k]}" for modality, texts in found.flags.items() if texts[k]]
    constant = [m for m, v in relevance.items() if len(v) > 1 and np.ptp(v) == 0]
    return "; ".join(own + [f"{modality} constant" for modality in constant])


def facts(found, k):
    """What the method says in numbers of sample k, as JSON; 6 digits, NaN is left out."""
    if not found.facts:
        return ""
    return json.dumps(
        {
            modality: {name: float(f"{v[k]:.6g}") for name, v in values.items() if v[k] == v[k]}
            for modality, values in found.facts.items()
        }
    )


def choose_rows(samples, split, count, seed=0, section="explain"):
    """About `count` rows of a split to explain, in table order.

    Whole clusters (quads, images) in the order of a hash, so that every stratum and class keeps
    its share and the choice does not depend on the order of the table.
    """
    of_split = samples[samples["split"] == split]
    if of_split.empty:
        raise DataError(section, [f"{section}.split: the data set has no samples of {split!r}"])
    sizes = of_split.groupby("cluster_id").size()
    order = sorted(sizes.index, key=lambda cluster: seed_from("explain", seed, cluster))
    total = sizes[order].cumsum()
    chosen = total.index[(total <= count) | (total.index == order[0])]
    return of_split[of_split["cluster_id"].isin(chosen)].reset_index(drop=True)
