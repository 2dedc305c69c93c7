"""Methods that remove words and patches and watch the explained logit."""

import numpy as np
import torch

from ..files import seed_from
from . import register_method
from .coalitions import by_modality, coalition_scores, players


@register_method("occlusion", class_specific=True)
def occlusion(capture):
    """Leave one token out (Zeiler & Fergus 2014; for words Li, Monroe & Jurafsky 2016).

    The logit with all tokens minus that without one of them, by removal at the model's input; a
    token that speaks against the class is negative. One forward pass per token.
    Returns {modality: (B, N)}.
    """
    content = players(capture)
    samples, places = content.nonzero(as_tuple=True)
    everyone = torch.arange(len(content), device=content.device)
    rows = torch.cat([everyone, samples])
    shown = content[rows]
    shown[len(content) + torch.arange(len(places), device=places.device), places] = False
    scores = coalition_scores(capture, rows, shown)
    relevance = scores.new_zeros(content.shape)
    relevance[samples, places] = scores[samples] - scores[len(content) :]
    return by_modality(capture, relevance)


@register_method(
    "shapley",
    class_specific=True,
    arguments={"permutations": {"type": "integer", "minimum": 2, "multipleOf": 2}},
)
def shapley(capture, permutations=8):
    """Shapley values of words and patches in one game, by sampling (Castro et al. 2009, alg. 1).

    A coalition is worth the logit with only its tokens at the model's input. Tokens enter one after
    the other, in orders drawn per sample, each of which also runs backwards (antithetic sampling,
    Mitchell et al. 2022, sec. 4.1); the value of a token is the mean of what its entry changes. So
    the values of a sample sum to the logit with all tokens minus that with special tokens alone.
    Signed. `permutations` (n - 1) + 2 forward passes for a sample of n tokens.

    permutations : number of orders, an even one, the backward ones among them
    Returns {modality: (B, N)}.
    """
    if permutations < 2 or permutations % 2:
        raise ValueError(
            f"shapley: permutations: found {permutations}, expected an even number, since every "
            "order also runs backwards"
        )
    content = players(capture)
    rows, shown, ranks = [], [], []
    for k, sample_id in enumerate(capture.sample_ids):
        places = content[k].nonzero()[:, 0]
        ranks.append(entry_ranks(len(places), permutations, sample_id).to(places.device))
        members = coalitions(ranks[k])
        shown.append(members.new_zeros(len(members), content.shape[1]))
        shown[k][:, places] = members
        rows += [k] * len(members)
    rows = torch.tensor(rows, device=content.device)
    worth = coalition_scores(capture, rows, torch.cat(shown)).split([len(part) for part in shown])
    relevance = worth[0].new_zeros(content.shape)
    for k, own in enumerate(ranks):
        relevance[k, content[k]] = mean_gains(worth[k], own)
    return by_modality(capture, relevance)


def entry_ranks(count, permutations, sample_id):
    """Long (P, count): when each token enters, 0 first; the second half are the first backwards."""
    rng = np.random.default_rng(seed_from("shapley", sample_id))
    forward = np.stack([rng.permutation(count) for _ in range(permutations // 2)])
    return torch.from_numpy(np.concatenate([forward, count - 1 - forward]))


def coalitions(ranks):
    """Bool (K, n): no token, all tokens, then for each order those of the first 1, ..., n - 1."""
    count = ranks.shape[1]
    entered = torch.arange(1, max(count, 1), device=ranks.device)
    # No token and all tokens are the same in every order.
    ends = torch.tensor([[False], [True]], device=ranks.device).expand(-1, count)
    return torch.cat([ends, (ranks[:, None] < entered[:, None]).flatten(0, 1)])


def mean_gains(worth, ranks):
    """What the entry of each token changes, (n,), mean over orders.

    worth : (K,) of `coalitions`; ranks : long (P, n)
    """
    orders, count = ranks.shape
    if count == 0:
        return worth[:0]
    nobody, everybody = worth[:2, None, None].expand(-1, orders, 1)
    curves = torch.cat([nobody, worth[2:].view(orders, count - 1), everybody], 1)
    return curves.diff(dim=1).gather(1, ranks).mean(0)
