"""Where the pixels and words come from that stand in the place of removed ones."""

from dataclasses import replace

import numpy as np
import torch

from ..files import seed_from
from ..models.inputs import EncodedSamples, encode
from . import OPERATORS
from .operators import Inputs


class Sources:
    """Donors of all explained samples, drawn by sample, so that no shard or batch changes them.

    Parameters
    ----------
    samples : DataFrame of all explained samples: sample_id, cluster_id, image, text
    spec : InputSpec
    operators : names of the operators of the run
    """

    def __init__(self, samples, spec, operators):
        wanted = {OPERATORS.attribute(name, "sources") for name in operators}
        ordered = samples.sort_values("sample_id", ignore_index=True)
        self.spec, self.donor_of, self.pieces = spec, None, None
        if "donors" in wanted and spec.geometry is not None:
            self.donor_of = draw_donors(ordered)
        if "words" in wanted:
            self.pieces = Pieces(ordered, spec)

    def inputs(self, data, rows, device):
        """The `Inputs` of the rows (long tensor) of an `EncodedSamples`."""
        batch, own = data.batch(rows, device), data.samples.iloc[rows.numpy()]
        donors = words = None
        if self.donor_of:
            images = own.assign(image=[self.donor_of[name] for name in own["sample_id"]], text="")
            shown = EncodedSamples(images, replace(self.spec, raw=False))
            donors = shown.batch(torch.arange(len(images)), device).image
        if self.pieces is not None and self.pieces.clusters > 1:
            words = batch.input_ids.clone()
            for k, row in enumerate(own.itertuples()):
                places = batch.text_content[k]
                drawn = self.pieces.draw(row.sample_id, row.cluster_id, int(places.sum()))
                if drawn:
                    words[k, places] = torch.tensor(drawn, device=words.device)
        return Inputs(batch, self.spec, donors, words)


def draw_donors(samples):
    """{sample_id: image of a sample of another cluster}; None if there is one cluster only.

    samples : DataFrame in the order of their sample_id
    """
    clusters, images = samples["cluster_id"].to_numpy(), samples["image"].to_numpy()
    if len(set(clusters)) < 2:
        return None
    found = {}
    for row in samples.itertuples():
        others = np.flatnonzero((clusters != row.cluster_id) & (images != row.image))
        rng = np.random.default_rng(seed_from("donor", row.sample_id))
        # Clusters may share an image: then one of another cluster has to do.
        others = others if len(others) else np.flatnonzero(clusters != row.cluster_id)
        found[row.sample_id] = images[others[rng.integers(len(others))]]
    return found


class Pieces:
    """The pieces of all explained texts, by their places.

    samples : DataFrame in the order of their sample_id
    """

    def __init__(self, samples, spec):
        self.ids, self.owners = [], []  # per place: pieces, and the clusters of their texts
        for encoding, cluster in zip(
            encode(samples["text"].tolist(), spec), samples["cluster_id"], strict=True
        ):
            special = encoding.special_tokens_mask
            own = [i for i, s in zip(encoding.ids, special, strict=True) if not s]
            for place, piece in enumerate(own):
                if place == len(self.ids):
                    self.ids.append([])
                    self.owners.append([])
                self.ids[place].append(piece)
                self.owners[place].append(cluster)
        self.clusters = samples["cluster_id"].nunique()
        self.ids = [np.array(ids) for ids in self.ids]
        self.owners = [np.array(owners, dtype=object) for owners in self.owners]

    def draw(self, sample_id, cluster, count):
        """`count` pieces: at every place one of those that other clusters' texts have there.

        Where no such text is that long, one of their last place; [] if none of them has words.
        """
        rng = np.random.default_rng(seed_from("resample", sample_id))
        drawn, choice = [], np.zeros(0, int)
        for place in range(count):
            here = self.ids[place][self.owners[place] != cluster]
            choice = here if len(here) else choice
            if len(choice):
                drawn.append(int(choice[rng.integers(len(choice))]))
        return drawn
