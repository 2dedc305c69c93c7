"""Attention per layer and head: how spread it is, and how much of it crosses modalities."""

from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from ..explanation.capture import observed
from ..explanation.propagation import row_of
from ..models.base import Layout

# Why a mass is what it is, whatever the model has learned.
CROSSES = "1 by construction: the map reads the other modality alone"
STAYS = "0 by construction: the map reads its own modality alone"


@dataclass(frozen=True)
class Mass:
    """Attention of some queries on the other modality: share (B, H), NaN for none of them.

    rows : "text" or "image", the valid tokens of this modality, or "readout", the token that the
        classifier reads; note : "" or why the share could be no other
    """

    rows: str
    share: torch.Tensor
    note: str = ""


@dataclass(frozen=True)
class MapSummary:
    """What is kept of one attention map (B, H, Q, K).

    query, key : names of the streams; layer : its number, from 1, among the maps of both
    entropy : (B, H) normalised entropy, mean over valid queries
    masses : tuple of Mass
    """

    query: str
    key: str
    layer: int
    entropy: torch.Tensor
    masses: tuple


@dataclass
class AttentionSummary:
    """The maps of a forward pass in their order, and the rows (B, K) of the readout token.

    rows : {(query, key): list of (B, K), a layer each}, mean over heads, of streams that the
        classifier reads
    """

    layout: Layout
    maps: list = field(default_factory=list)
    rows: dict = field(default_factory=dict)

    def maps_between(self, query, key):
        """The readout's rows from stream `query` to stream `key`, in the order of their layers."""
        return self.rows.get((query, key), [])


@contextmanager
def summarised_attention(model, layout):
    """Yield an `AttentionSummary` that one forward pass inside the block fills.

    Every map is reduced when it is computed; none is kept.

    layout : Layout of the tokens of this pass
    """
    found = AttentionSummary(layout)
    layers = {}

    def see(edge, attention):
        pair = (edge.query, edge.key)
        layers[pair] = layers.get(pair, 0) + 1
        found.maps.append(summary(edge, attention, layout, model.causal_streams, layers[pair]))
        for stream, row in layout.readouts:
            if stream == edge.query:
                found.rows.setdefault(pair, []).append(row_of(attention.mean(1), row))

    with observed(model, see):
        yield found


def summary(edge, attention, layout, causal, layer):
    """`MapSummary` of the map (B, H, Q, K) of an edge; causal : as in Model."""
    attention = attention.to(torch.promote_types(attention.dtype, torch.float32))
    queries, keys = layout.valid[edge.query], layout.valid[edge.key]
    seen = keys[:, None].expand(-1, queries.shape[1], -1)
    if edge.query == edge.key and edge.query in causal:
        seen = seen.tril()
    return MapSummary(
        edge.query,
        edge.key,
        layer,
        normalised_entropy(attention, queries, seen),
        tuple(cross_modal_masses(edge, attention, layout)),
    )


def normalised_entropy(attention, queries, keys):
    """Entropy of what a query reads over the logarithm of the number of its keys.

    0 for all on one key, and for a query that has one key only; 1 for the same on every key.

    attention : (B, H, Q, K); queries : bool (B, Q), keys : bool (B, Q, K), False for what is not
    counted: padding, and keys that a query must not read

    Returns
    -------
    (B, H), mean over queries; NaN where there are none
    """
    # Head by head: of all at once, what lies between would be as large as the map again.
    heads = [torch.special.entr(head * keys).sum(-1) for head in attention.unbind(1)]
    entropy = torch.stack(heads, 1)
    count = keys.sum(-1)[:, None]
    entropy = torch.where(count > 1, entropy / count.clamp(min=2).log(), 0)
    return mean_over(entropy, queries)


def mean_over(values, queries):
    """Mean (B, H) of values (B, H, Q) over queries, bool (B, Q); NaN where there are none."""
    counted = queries[:, None]
    return torch.where(counted, values, 0).sum(-1) / counted.sum(-1)


def cross_modal_masses(edge, attention, layout):
    """`Mass` of each kind of queries of a map; none for a stream that holds no modality.

    Such a stream is SigLIP's pooling, whose only query belongs to neither.
    """
    spans = layout.spans
    if len(spans) < 2:
        return
    if edge.query == edge.key and sum(span.stream == edge.query for span in spans.values()) > 1:
        valid = layout.valid[edge.query]
        for modality in spans:
            other = within(valid, [spans[m] for m in spans if m != modality])
            own = within(valid, [spans[modality]])
            yield Mass(modality, mean_over(mass_on(attention, other), own))
            for row in (row for stream, row in layout.readouts if stream == edge.query):
                # The readout token belongs to the modality in whose span it lies.
                inside = row_of(own[..., None], row)[:, 0]
                if inside.any():
                    share = row_of(mass_on(attention, other).transpose(1, 2), row)
                    yield Mass("readout", share)
    else:
        for modality, span in spans.items():
            if span.stream == edge.query:
                crosses = edge.query != edge.key
                share = torch.full_like(attention[..., 0, 0], float(crosses))
                share[~within(layout.valid[edge.query], [span]).any(1)] = torch.nan
                yield Mass(modality, share, CROSSES if crosses else STAYS)


def within(valid, spans):
    """Valid columns, bool (B, N), that lie in one of the spans."""
    inside = torch.zeros_like(valid)
    for span in spans:
        inside[:, span.slice] = True
    return valid & inside


def mass_on(attention, keys):
    """Mass (B, H, Q) of attention (B, H, Q, K) on keys, bool (B, K)."""
    return torch.einsum("bhqk,bk->bhq", attention, keys.to(attention.dtype))
