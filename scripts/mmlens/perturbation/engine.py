"""The perturbation engine: which tokens remain, and what the model says to them.

Tokens are removed by gathering, at the input of the model's transformer layers, so a step that
keeps a tenth of the tokens costs about a tenth. Equal subsets of a sample are computed once: the
steps 0 and 1 are shared by all methods and directions, and short texts repeat many others.
"""

from fractions import Fraction

import numpy as np
import pandas as pd
import torch

from ..files import seed_from
from .curves import SCORES
from .judges import judge_of

PUBLISHED_STEPS = (0, 0.25, 0.5, 0.75, 0.8, 0.85, 0.9, 0.95, 1)
OPERATOR = "token_drop"


def kept_count(n, fraction, protocol):
    """How many of n tokens remain when `fraction` of them is removed.

    "default" is exact integer arithmetic, floor((1 - fraction) n); "published" is the floor of
    floating-point numbers in the code of METER and of Chefer et al., which keeps one token too
    few for some n (n = 10, fraction = 0.8 keeps 1 instead of 2).
    """
    if protocol == "published":
        return int((1 - fraction) * n)
    return int((1 - Fraction(str(fraction))) * n)


def removal_order(relevance, sample_id, method):
    """Token numbers from least to most relevant; ties in an order drawn per sample and method."""
    rng = np.random.default_rng(seed_from("ties", sample_id, method))
    return np.lexsort((rng.random(len(relevance)), relevance))


class Subsets:
    """Requests (sample, kept tokens) of one modality; each distinct one is answered once."""

    def __init__(self):
        self.numbers = {}

    def request(self, sample, kept):
        """Number under which the answer for these kept tokens (sorted array) will be found."""
        return self.numbers.setdefault((sample, tuple(kept)), len(self.numbers))

    @torch.no_grad()
    def evaluate(self, model, tokens, modality, batch_size, judge):
        """Scores (number of subsets, SCORES) with only the kept tokens of `modality`.

        tokens : {modality: Tokens} of all samples; special tokens always stay, in their places.
        judge : see judges.py
        """
        own = tokens[modality]
        always = own.valid & ~own.content
        by_length = {}
        for (sample, kept), number in self.numbers.items():
            content = own.content[sample].nonzero()[:, 0]
            positions = torch.cat([always[sample].nonzero()[:, 0], content[list(kept)]])
            item = (number, sample, positions.sort().values)
            by_length.setdefault(len(positions), []).append(item)
        scores = np.zeros((len(self.numbers), len(SCORES)))
        for _, items in sorted(by_length.items()):
            for start in range(0, len(items), batch_size):
                numbers, samples, positions = zip(*items[start : start + batch_size], strict=True)
                index = torch.stack(positions)
                rows = torch.tensor(samples, device=index.device)
                part = {m: t.rows(rows) for m, t in tokens.items()}
                part[modality] = part[modality].gather(index)
                scores[list(numbers)] = judge(model(part), samples)
        return scores


def perturb(model, tokens, attributions, samples, *, steps, protocol, batch_size, answers=None):
    """Perturbation test of every attribution.

    Parameters
    ----------
    model : Model in eval mode
    tokens : {modality: Tokens} of the N samples, from model.embed
    attributions : DataFrame of `explanation.explain`
    samples : DataFrame of the N samples in the order of `tokens`: sample_id, and what the judge
        of their task reads
    steps : fractions of tokens removed
    protocol : "default" or "published", see `kept_count`
    answers : names of the model's outputs, where they are more than one

    Returns
    -------
    DataFrame: sample_id, method, modality, direction ("positive": most relevant removed first,
    "negative": least relevant first), operator, protocol, fraction, and SCORES, as the judge of
    the task gives them (judges.py). Random orders are averaged per sample.
    """
    judge = judge_of(samples, answers)
    position = {sample_id: k for k, sample_id in enumerate(samples["sample_id"])}
    frames = []
    for modality in tokens:
        subsets, records = Subsets(), []
        for row in attributions.itertuples():
            order = removal_order(getattr(row, modality), row.sample_id, row.method)
            for direction in ("positive", "negative"):
                for fraction in steps:
                    kept = kept_count(len(order), fraction, protocol)
                    chosen = order[:kept] if direction == "positive" else order[len(order) - kept :]
                    number = subsets.request(position[row.sample_id], np.sort(chosen))
                    records.append((row.sample_id, row.method, direction, fraction, number))
        scores = subsets.evaluate(model, tokens, modality, batch_size, judge)
        columns = ["sample_id", "method", "direction", "fraction", "number"]
        frame = pd.DataFrame(records, columns=columns)
        frame.insert(2, "modality", modality)
        frame[list(SCORES)] = scores[frame.pop("number")]
        frames.append(frame)
    keys = ["sample_id", "method", "modality", "direction", "fraction"]
    scored = pd.concat(frames).groupby(keys, sort=False, as_index=False).mean()
    scored.insert(4, "operator", OPERATOR)
    scored.insert(5, "protocol", protocol)
    return scored
