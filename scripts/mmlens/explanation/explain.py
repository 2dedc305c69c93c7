"""All requested methods on all requested samples, as rows of the attributions table."""

import json

import numpy as np
import pandas as pd
import torch

from ..features.boxes import patch_boxes
from ..files import seed_from
from . import METHODS
from .capture import capture
from .maps import Maps
from .memory import fitting_batch


def explain(
    model,
    data,
    predicted,
    *,
    methods,
    draws,
    batch_size,
    device,
    memory=2000,
    layers=None,
    arguments=None,
):
    """Attributions of all samples of `data`.

    Parameters
    ----------
    model : Model in eval mode
    data : EncodedSamples of N samples
    predicted : bool tensor (N,), the predicted class, which is the one explained; for a model of
        many answers long (N,), their numbers
    methods : names of the registry
    draws : number of random orders; the other methods have one draw
    batch_size, memory : samples per capture, fewer if they would take more than so many MB
    layers : {modality: module path} for Grad-CAM, or None for the model's own choice
    arguments : {method: keyword arguments}, of methods that have some

    Returns
    -------
    DataFrame, one row per sample, method and draw: sample_id, method, draw, target (class),
    image (list over patches, row by row, with grid_rows and grid_columns, or over regions, with
    boxes: x1 y1 x2 y2 of each as shares of the image, one after the other), tokens (words),
    text (list over words), flags (see `flags`), facts (JSON {modality: {name: number}} of what a
    method says of how well its map is defined, "" of most). A modality the model does not read has
    empty lists.
    """
    records = []
    readouts = any(METHODS.attribute(name, "readouts", False) for name in methods)
    batch_size = fitting_batch(model, data, batch_size, memory, device)
    for chosen in torch.arange(len(data)).split(batch_size):
        target = predicted[chosen].to(device)
        ids = data.samples["sample_id"].iloc[chosen.numpy()].tolist()
        seen = capture(model, data.batch(chosen, device), ids, target, layers, readouts)
        content = {m: c.cpu().numpy() for m, c in seen.layout.content.items()}
        boxes = image_boxes(seen, data, chosen)
        grid = seen.layout.grid or (0, 0)
        for name in methods:
            method = METHODS.get(name)
            for draw in range(draws if name == "random" else 1):
                options = (arguments or {}).get(name, {})
                found = method(seen, **({"draw": draw} if name == "random" else options))
                maps = {m: values.detach().cpu().numpy() for m, values in found.items()}
                for k, row in enumerate(chosen.tolist()):
                    own = {
                        m: maps[m][k][content[m][k]] if m in maps else np.zeros(0)
                        for m in ("image", "text")
                    }
                    records.append(
                        {
                            "sample_id": ids[k],
                            "method": name,
                            "draw": draw,
                            "target": int(target[k]),
                            "image": own["image"].astype(np.float32),
                            "grid_rows": grid[0],
                            "grid_columns": grid[1],
                            "boxes": own_boxes(boxes, content, k),
                            "tokens": data.words(row)[0] if "text" in maps else [],
                            "text": own["text"].astype(np.float32),
                            "flags": flags(own, found, k),
                            "facts": facts(found, k),
                        }
                    )
    return pd.DataFrame(records)


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
    """Boxes of sample k's regions as one flat list; empty where the tokens are a grid's patches."""
    if boxes is None:
        return np.zeros(0, np.float32)
    shown = content["image"][k]
    # A class token, if there is one, comes before the regions and has no box.
    return boxes[k][shown[len(shown) - len(boxes[k]) :]].ravel()


def flags(relevance, found, k):
    """Why the maps of sample k mean nothing, by modality and separated by "; "; "" where they do.

    "<modality> constant" for every map of more than one token that has one value only, so that
    its order means nothing; and what the method itself says, such as "text 3 tokens".
    """
    remarks = found.flags if isinstance(found, Maps) else {}
    own = [f"{modality} {texts[k]}" for modality, texts in remarks.items() if texts[k]]
    constant = [m for m, v in relevance.items() if len(v) > 1 and np.ptp(v) == 0]
    return "; ".join(own + [f"{modality} constant" for modality in constant])


def facts(found, k):
    """What the method says in numbers of sample k, as JSON; 6 digits, NaN is left out."""
    if not isinstance(found, Maps) or not found.facts:
        return ""
    return json.dumps(
        {
            modality: {name: float(f"{v[k]:.6g}") for name, v in values.items() if v[k] == v[k]}
            for modality, values in found.facts.items()
        }
    )


def choose_rows(samples, split, count, seed=0):
    """About `count` rows of a split to explain, in table order.

    Whole clusters (quads, images) in the order of a hash, so that every stratum and class keeps
    its share and the choice does not depend on the order of the table.
    """
    of_split = samples[samples["split"] == split]
    if of_split.empty:
        raise ValueError(f"explain.split: the data set has no samples of split {split!r}")
    sizes = of_split.groupby("cluster_id").size()
    order = sorted(sizes.index, key=lambda cluster: seed_from("explain", seed, cluster))
    total = sizes[order].cumsum()
    chosen = total.index[(total <= count) | (total.index == order[0])]
    return of_split[of_split["cluster_id"].isin(chosen)].reset_index(drop=True)
