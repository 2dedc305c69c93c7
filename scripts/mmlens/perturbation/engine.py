"""The perturbation engine: which tokens remain, and what the model says to them.

With operators that gather, a step that keeps a tenth of the tokens costs about a tenth. Equal
subsets of a sample are computed once: the steps 0 and 1 are shared by all methods and directions,
and short texts repeat many others. With nothing removed, all operators and modalities show the same
inputs, and the explanation knows the answer. What a test does not touch, the layers that read the
other modality alone, is computed once too (`Model.prepare`), and what else of a removal a model
knows to be the same (`Model.removal`).
"""

from fractions import Fraction
from functools import cache

import numpy as np
import pandas as pd
import torch

from ..explanation import METHODS, NotApplicableError
from ..files import seed_from
from . import OPERATORS
from .curves import KEYS, SCORES
from .judges import judge_of
from .operators import TokenDrop, build_operator

PUBLISHED_STEPS = (0, 0.25, 0.5, 0.75, 0.8, 0.85, 0.9, 0.95, 1)
DIRECTIONS = ("positive", "negative")
# Methods by whose maps a word has the relevance of its first piece.
OF_FIRST_PIECE = {
    name for name in METHODS.names() if METHODS.attribute(name, "pieces", "") == "first"
}


@cache
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


def joint_relevance(image, text, sample_id, method):
    """One scale for patches, then words: (P + T,), the share of the own modality ranked below.

    A unit of rank r (0 the least relevant) of n has (r + 1/2) / n, since relevances of different
    modalities have no common unit. So any share removed takes about that share of each.
    """
    quantiles = []
    for relevance in (image, text):
        own = np.empty(len(relevance))
        own[removal_order(relevance, sample_id, method)] = np.arange(len(own)) + 0.5
        quantiles.append(own / max(len(own), 1))
    return np.concatenate(quantiles)


def rounded(device, precision):
    """Context in which a model of single precision computes in `precision`, see `perturb`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


class Units:
    """What is removed as one: patches and regions by themselves, words with all their pieces.

    Parameters
    ----------
    tokens, samples : of `perturb`
    words : {sample_id: number of the word (T,) of every piece}; None to remove pieces
    """

    def __init__(self, tokens, samples, words):
        self.position = {sample_id: k for k, sample_id in enumerate(samples["sample_id"])}
        self.counts = {m: part.content.sum(1).tolist() for m, part in tokens.items()}
        self.counts["joint"] = [sum(own) for own in zip(*self.counts.values(), strict=True)]
        self.words = words

    def groups(self, row, modality):
        """Number of the unit that every token of an attribution's row belongs to.

        None if the row has no map of the modality; ValueError if it is one of other tokens.
        """
        if modality == "joint":
            image, text = (self.groups(row, own) for own in ("image", "text"))
            if image is None or text is None:
                return None
            return np.concatenate([image, text + len(image)])
        found = len(getattr(row, modality))
        count = self.counts[modality][self.position[row.sample_id]]
        if not found and count:
            return None
        by_word = modality == "text" and self.words is not None
        groups = np.asarray(self.words[row.sample_id], int) if by_word else np.arange(count)
        if not found == count == len(groups):
            raise ValueError(
                f"{modality} of sample {row.sample_id}, method {row.method}: found {found} "
                f"relevances and {len(groups)} tokens of words, expected {count}"
            )
        return groups

    def relevance(self, row, modality, groups):
        """Relevance of every unit: the sum of its tokens'.

        Of methods that say where a token stands, or nothing, that of its first token: a word of
        many pieces would rank high by their number alone. So would it by a constant map, whose
        sums are left at 0.
        """
        if modality == "joint":
            image = np.asarray(row.image, float)
            words = self.relevance(row, "text", groups[len(image) :] - len(image))
            return joint_relevance(image, words, row.sample_id, row.method)
        values = np.asarray(getattr(row, modality), float)
        if row.method in OF_FIRST_PIECE:
            return values[np.unique(groups, return_index=True)[1]]
        constant = len(values) > 0 and np.ptp(values) == 0
        return np.bincount(groups, weights=np.zeros(len(values)) if constant else values)


class Subsets:
    """Requests (sample, kept tokens) of one modality; each distinct one is answered once.

    known : {request: its scores}, of those that need not be computed
    """

    def __init__(self, known=None):
        self.numbers, self.known = {}, known or {}

    def request(self, sample, kept):
        """Number under which the answer for these kept tokens (sorted array) will be found."""
        return self.numbers.setdefault((sample, tuple(kept)), len(self.numbers))

    @torch.no_grad()
    def evaluate(
        self, model, tokens, modality, batch_size, judge, operator=None, precision="float32"
    ):
        """Scores (number of subsets, SCORES) with only the kept tokens of `modality`.

        tokens : {modality: Tokens} of all samples; special tokens always stay, in their places.
        judge : see judges.py; operator : by default TokenDrop
        batch_size, precision : see `perturb`
        """
        operator = operator or TokenDrop(model, modality, tokens)
        device = next(iter(tokens.values())).values.device
        with rounded(device, precision):
            answers = operator.answers(tokens)
        by_length = {}
        scores = np.zeros((len(self.numbers), len(SCORES)))
        for (sample, kept), number in self.numbers.items():
            if (sample, kept) in self.known:
                scores[number] = self.known[sample, kept]
                continue
            plan = operator.plan(sample, kept)
            by_length.setdefault(len(plan), []).append((number, sample, plan))
        for length, items in sorted(by_length.items()):
            at_once = batch_size * operator.whole // max(1, operator.size(length))
            for start in range(0, len(items), at_once):
                numbers, samples, plans = zip(*items[start : start + at_once], strict=True)
                rows = torch.tensor(samples, device=device)
                with rounded(device, precision):
                    logits = answers(rows, torch.stack(plans).to(device))
                scores[list(numbers)] = judge(logits, samples)
        return scores


@torch.no_grad()
def perturb(
    model,
    tokens,
    attributions,
    samples,
    *,
    steps,
    protocol,
    batch_size,
    answers=None,
    operators=(TokenDrop.name,),
    procedures=("deletion",),
    joint=False,
    words=None,
    inputs=None,
    arguments=None,
    precision="float32",
    logits=None,
    say=print,
):
    """Perturbation test of every attribution.

    Parameters
    ----------
    model : Model in eval mode
    tokens : {modality: Tokens} of the N samples, from model.embed
    attributions : DataFrame of `explanation.explain`
    samples : DataFrame of the N samples in the order of `tokens`: sample_id, and what the judge
        of their task reads
    steps : fractions of tokens removed
    protocol : "default" or "published", see `kept_count`; the latter removes pieces of words
    batch_size : subsets per forward pass that show all tokens; of those that show fewer, as many as
        have no more tokens together
    answers : names of the model's outputs, where they are more than one
    operators : names of the registry
    procedures : of "deletion" and "insertion"
    joint : whether words and patches are also removed together, in one order
    words : {sample_id: number of the word of each piece}, which go together; None for pieces
    inputs : operators.Inputs of the N samples, which most operators need
    arguments : {operator: keyword arguments}, of operators that have some
    precision : "float32", or "bfloat16" for matrix products of 8 significant bits, which are faster
        where the machine has them; scores are then those of a slightly other model
    logits : of the N samples in single precision, if they are known
    say : is told why an operator does not apply to the model; it then has no rows

    Returns
    -------
    DataFrame: sample_id, method, modality (also "joint"), direction ("positive": most relevant
    removed first, "negative": least relevant first), operator, procedure, protocol, fraction, and
    SCORES, as the judge of the task gives them (judges.py). Random orders are averaged per sample.

    An insertion begins with everything removed and brings back first, if positive, the most
    relevant; fraction is the share brought back. What is then shown is what the deletion of the
    other direction shows at one minus this share: the same scores, read from the other end. A
    method without a map of a modality has no rows there.
    """
    judge = judge_of(samples, answers)
    units = Units(tokens, samples, None if protocol == "published" else words)
    frames = []
    whole = {}
    if logits is not None and precision == "float32":
        whole = dict(enumerate(judge(logits, range(len(samples)))))

    @cache
    def prepared(modality):
        with rounded(tokens[modality].values.device, precision):
            return model.prepare(modality, tokens[modality])

    for name, modality in pairs_of(operators, tokens, joint):
        try:
            own = (arguments or {}).get(name)
            operator = build_operator(name, modality, model, tokens, inputs, own)
        except NotApplicableError as reason:
            say(f"perturbation: {name} of {modality} is not applicable to {model.name}: {reason}")
            continue
        everything = {k: (k, tuple(range(n))) for k, n in enumerate(units.counts[modality])}
        subsets = Subsets({everything[k]: own for k, own in whole.items()})
        frame = requests(subsets, attributions, modality, units, steps, protocol)
        given = {m: t if modality in (m, "joint") else prepared(m) for m, t in tokens.items()}
        scores = subsets.evaluate(model, given, modality, batch_size, judge, operator, precision)
        numbers = {k: subsets.numbers.get(request) for k, request in everything.items()}
        whole = {k: scores[number] for k, number in numbers.items() if number is not None} | whole
        frame[list(SCORES)] = scores[frame.pop("number")]
        frame = frame.groupby(["sample_id", "method", "direction", "fraction"], sort=False)
        frame = frame.mean().reset_index()
        for procedure in procedures:
            part = inserted(frame) if procedure == "insertion" else frame
            own = {"modality": modality, "operator": name, "procedure": procedure}
            frames.append(part.assign(**own, protocol=protocol))
    if not frames:
        raise ValueError(
            f"perturbation.operators: found {', '.join(operators)}, of which none applies to "
            f"{model.name}; add token_drop"
        )
    return pd.concat(frames, ignore_index=True)[["sample_id", *KEYS, "fraction", *SCORES]]


def pairs_of(operators, tokens, joint):
    """(operator, modality) of all tests of a model, in the order of the operators."""
    pairs = [
        (name, modality)
        for name in operators
        for modality in tokens
        if modality in OPERATORS.attribute(name, "modalities")
    ]
    return pairs + ([(TokenDrop.name, "joint")] if joint else [])


def requests(subsets, attributions, modality, units, steps, protocol):
    """One row per attribution, direction and step, with the number of its subset."""
    records = []
    for row in attributions.itertuples():
        groups = units.groups(row, modality)
        if groups is None:
            continue
        order = removal_order(units.relevance(row, modality, groups), row.sample_id, row.method)
        shown = np.zeros(len(order), bool)
        for direction in DIRECTIONS:
            for fraction in steps:
                kept = kept_count(len(order), fraction, protocol)
                chosen = order[:kept] if direction == "positive" else order[len(order) - kept :]
                shown[:] = False
                shown[chosen] = True
                tokens = np.flatnonzero(shown[groups])
                number = subsets.request(units.position[row.sample_id], tokens)
                records.append((row.sample_id, row.method, direction, fraction, number))
    columns = ["sample_id", "method", "direction", "fraction", "number"]
    return pd.DataFrame(records, columns=columns)


def inserted(deletion):
    """The insertion curves that deletion curves are, read from the other end."""
    other = dict(zip(DIRECTIONS, reversed(DIRECTIONS), strict=True))
    rest = {f: float(1 - Fraction(str(f))) for f in deletion["fraction"].unique()}
    return deletion.assign(
        direction=deletion["direction"].map(other), fraction=deletion["fraction"].map(rest)
    )
