"""Sanity checks of explanations: do their maps depend on what they claim to explain?

Every check explains again under a change and compares the maps of each sample: with other weights
and for another class they should change, under small noise they should not.
"""

from functools import partial

import numpy as np
import pandas as pd
import torch

from ..explanation import METHODS
from ..explanation.smooth_grad import value_range
from ..files import seed_from
from ..models.inputs import EncodedSamples
from .randomisation import parameter_blocks, randomised
from .sanity_table import KEYS

COLUMNS = ["sample_id", *KEYS, "value"]
MODALITIES = ("image", "text")
AGNOSTIC = "class-agnostic by definition"


def rank_correlation(first, second):
    """Spearman's rank correlation of two maps (N,); ties share their mean rank.

    NaN where a map is constant, and so has no order.
    """
    ranks = [pd.Series(np.asarray(values, float)).rank().to_numpy() for values in (first, second)]
    first, second = (values - values.mean() for values in ranks)
    norm = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / norm) if norm > 0 else float("nan")


def relative_change(first, second):
    """L2 distance of two maps (N,) in units of the first one's norm; NaN where that is 0."""
    first, second = np.asarray(first, float), np.asarray(second, float)
    norm = np.linalg.norm(first)
    return float(np.linalg.norm(second - first) / norm) if norm > 0 else float("nan")


def map_records(before, after, measures, **facts):
    """Rows of COLUMNS that compare the maps of the same samples and methods.

    Maps without tokens (a modality that a model does not read, a method that does not apply) have
    no row.

    before, after : attributions of `explain`; measures : {name: function of two maps}
    """
    keys = ["sample_id", "method"]
    before, after = (frame[[*keys, *MODALITIES]] for frame in (before, after))
    paired = before.merge(after, on=keys, validate="one_to_one")
    rows = []
    for row in paired.itertuples():
        for modality in MODALITIES:
            maps = [getattr(row, f"{modality}_{side}") for side in ("x", "y")]
            if len(maps[0]):
                named = {"sample_id": row.sample_id, "method": row.method, "modality": modality}
                rows += [
                    {**named, **facts, "measure": name, "value": measure(*maps)}
                    for name, measure in measures.items()
                ]
    return records(rows)


def records(rows):
    """DataFrame of COLUMNS; keys that a check does not have are ""."""
    blank = dict.fromkeys(KEYS, "")
    return pd.DataFrame([{**blank, **row} for row in rows], columns=COLUMNS)


def not_applicable(check, why):
    """The row of a check that cannot be made."""
    note = f"not applicable: {why}"
    return records([{"sample_id": "", "check": check, "note": note, "value": np.nan}])


# With their signs, and without, for methods whose signs follow those of the weights.
SIMILARITY = {
    "spearman": rank_correlation,
    "spearman_abs": lambda first, second: rank_correlation(np.abs(first), np.abs(second)),
}


def check_maps(model, data, predicted, explained, settings, device):
    """All checks of maps that `settings` asks for, among other checks.

    Parameters
    ----------
    model : Model in eval mode; data : EncodedSamples of N samples
    predicted : bool (N,) or long (N,), the explained classes
    explained : function (data, classes, methods) -> attributions
    settings : section sanity of the config, with the names of methods filled in

    Returns
    -------
    DataFrame of COLUMNS: one row per sample, check, method, step, modality and measure; value is
    NaN where it is not defined, as the map is constant
    """
    methods = settings["methods"]
    if not methods:
        return records([])
    before = explained(data, predicted, methods)
    again = partial(explained, data, predicted, methods)
    checks = {
        "randomisation": lambda: randomisation(model, data, before, again, settings, device),
        "class_sensitivity": lambda: class_sensitivity(
            model, data, predicted, before, explained, settings, device
        ),
        "stability": lambda: stability(model, data, predicted, before, explained, settings),
    }
    asked = {name: make for name, make in checks.items() if name in settings["checks"]}
    if before.empty:
        why = "none of the methods applies to the model"
        frames = [not_applicable(name, why) for name in asked]
    else:
        frames = [make() for make in asked.values()]
    return pd.concat(frames, ignore_index=True) if frames else records([])


def randomisation(model, data, before, again, settings, device):
    """Model parameter randomisation test (Adebayo et al. 2018), of the class explained before.

    cascading: the blocks from the head down to the one of this step have random weights;
    independent: that block alone. Steps count from 1, nearest to the head.
    """
    blocks = parameter_blocks(model, data.batch(torch.arange(1), device), settings["blocks"])
    frames, above = [], {}
    for step, (name, parameters) in enumerate(blocks, 1):
        above |= parameters
        with randomised(above, settings["seed"]):
            cascading = independent = again()
        if step > 1:  # the cascade begins with one block
            with randomised(parameters, settings["seed"]):
                independent = again()
        for check, after in (("cascading", cascading), ("independent", independent)):
            facts = {"check": check, "step": str(step), "block": name}
            frames.append(map_records(before, after, SIMILARITY, **facts))
    return pd.concat(frames)


def class_sensitivity(model, data, predicted, before, explained, settings, device):
    """Similarity of the maps for the predicted class and for the other, or the second, one.

    Methods that know no class have the same map for all by definition, and are not run again.
    """
    is_specific = before["method"].map(lambda m: METHODS.attribute(m, "class_specific", True))
    specific = before.loc[is_specific, "method"].unique().tolist()
    facts = {"check": "class_sensitivity"}
    agnostic = before[~is_specific]
    frames = [map_records(agnostic, agnostic, SIMILARITY, **facts, note=AGNOSTIC)]
    if specific:
        other = other_class(model, data, predicted, settings["batch_size"], device)
        after = explained(data, other, specific)
        frames.append(map_records(before[is_specific], after, SIMILARITY, **facts))
    return pd.concat(frames)


@torch.no_grad()
def other_class(model, data, predicted, batch_size, device):
    """Of two labels the other one; of answers the one with the highest logit of the others."""
    if predicted.dtype == torch.bool:
        return ~predicted
    chosen = []
    for rows in torch.arange(len(data)).split(batch_size):
        logits = model(model.embed(data.batch(rows, device))).cpu()
        chosen.append(logits.scatter(1, predicted[rows, None], float("-inf")).argmax(1))
    return torch.cat(chosen)


def stability(model, data, predicted, before, explained, settings):
    """Similarity of maps with small noise on the image, of the class predicted without it.

    spearman, spearman_abs : mean over draws; max_sensitivity : the largest change over draws,
    in units of the map's norm (max-sensitivity, Yeh et al. 2019, by sampling as there)
    """
    if "image" not in model.modalities:
        return not_applicable("stability", "the noise is on images, which the model does not read")
    measures = {**SIMILARITY, "max_sensitivity": relative_change}
    frames = []
    for draw in range(settings["draws"]):
        noisy = NoisySamples(data, settings["noise"], draw)
        after = explained(noisy, predicted, settings["methods"])
        frames.append(map_records(before, after, measures, check="stability"))
    every = pd.concat(frames)
    grouped = every.groupby([*COLUMNS[:-1]], sort=False)["value"]
    # Where one draw has no value, neither their mean nor the largest has.
    whole = grouped.agg(lambda values: values.mean(skipna=False)).reset_index()
    largest = grouped.agg(lambda values: values.max(skipna=False)).to_numpy()
    of_change = whole["measure"] == "max_sensitivity"
    return whole.assign(value=whole["value"].where(~of_change, largest))


class NoisySamples(EncodedSamples):
    """Samples whose images, pixels or frozen features, carry small noise, keyed by the sample.

    radius : the noise is uniform between -radius and radius, times the range of the values of the
        sample's image
    """

    def __init__(self, data, radius, draw):
        vars(self).update(vars(data))
        self.radius, self.draw = radius, draw

    def batch(self, index, device="cpu", share_images=False):
        """The `Batch` of the rows `index`, every sample with an image of its own."""
        batch = super().batch(index, device)
        image, shown = batch.image, torch.ones_like(batch.image[:, :1], dtype=torch.bool)
        if batch.image_valid is not None:
            shown = batch.image_valid[..., None]
        noise = np.empty(image.shape)
        for k, sample_id in enumerate(self.samples["sample_id"].iloc[index.numpy()]):
            rng = np.random.default_rng(seed_from("stability", self.draw, sample_id))
            # Padding comes last, so that more of it leaves the rest as it is.
            noise[k] = rng.uniform(-self.radius, self.radius, image.shape[1:])
        scale = value_range(image, shown)
        batch.image = image + torch.from_numpy(noise).to(image) * scale * shown
        return batch
