"""Propagation of token-to-token matrices through a model's attention, and their readout.

R[s, k] of shape (B, N_s, N_k) says how much each token of stream s holds of each input token of
stream k. One interpreter walks a capture's steps; relevance and rollout differ in the rule.
"""

import torch

from . import NotApplicableError


def propagate(capture, rule):
    """Walk the attention maps in order and return R.

    Parameters
    ----------
    capture : Capture
    rule : function (map, R) -> {(s, k): new value} for the query stream s of the map

    Returns
    -------
    dict (stream, stream) -> (B, N_s, N_k)

    Raises
    ------
    NotApplicableError to a model without attention maps
    """
    check_maps(capture)
    sizes = {stream: valid.shape[1] for stream, valid in capture.layout.valid.items()}
    some = capture.maps[0].attention
    state = {
        (s, k): some.new_zeros(len(some), sizes[s], sizes[k])
        + (torch.eye(sizes[s], device=some.device, dtype=some.dtype) if s == k else 0)
        for s in sizes
        for k in sizes
    }
    for step in capture.steps:
        # What one stream does within a step, the others do not see.
        seen = {attention_map.query: dict(state) for attention_map in step}
        for attention_map in step:
            change = rule(attention_map, seen[attention_map.query])
            seen[attention_map.query] |= change
            state |= change
    return state


def check_maps(capture):
    """NotApplicableError to a model without attention maps, or without any on a modality.

    Such a modality would have a map of zeros.
    """
    if not capture.maps:
        raise NotApplicableError("reads attention maps, and the model has none")
    read = {attention_map.key for attention_map in capture.maps}
    for modality, span in capture.layout.spans.items():
        if span.stream not in read:
            raise NotApplicableError(f"reads attention maps, and none is on the {modality}")


def readout(capture, state):
    """{modality: (B, N)}: the rows of R that the classifier reads, summed over readouts."""
    return {
        modality: sum(
            row_of(state[stream, span.stream], row)[:, span.slice]
            for stream, row in capture.layout.readouts
        )
        for modality, span in capture.layout.spans.items()
    }


def own_readout(capture, state, enter):
    """{modality: (B, N)}: of R, the row of each modality's own stream that the classifier reads.

    enter : function (AttentionMap, row) -> (B, K), for streams that it does not read itself: what
        the last map from a row that it does read (a number, or long (B,)) holds of the stream
    """
    relevance = {}
    for modality, span in capture.layout.spans.items():
        own = [row for stream, row in capture.layout.readouts if stream == span.stream]
        if own:
            values = sum(row_of(state[span.stream, span.stream], row) for row in own)
        else:
            values = enter(*readout_map(capture, modality))
        relevance[modality] = values[:, span.slice]
    return relevance


def row_of(matrices, row):
    """One row (B, K) of matrices (B, Q, K); row is a number, or long (B,), one of each sample."""
    return matrices[torch.arange(len(matrices), device=matrices.device), row]


def readout_map(capture, modality, prefer_cross=False):
    """The last of `readout_maps`, and its row."""
    maps, row = readout_maps(capture, modality, prefer_cross)
    return maps[-1], row


def readout_maps(capture, modality, prefer_cross=False):
    """The attention maps from the stream of a readout token to `modality`, and that token's row.

    A stream that has a readout token of its own is read by its self-attention, other streams by the
    cross-attention of a readout stream. With `prefer_cross` the image is read by the text's
    cross-attention wherever there is one, as in the published code of METER.

    Raises
    ------
    NotApplicableError to a model that has none
    """
    check_maps(capture)
    key = capture.layout.spans[modality].stream
    readouts = dict(capture.layout.readouts)
    others = [stream for stream in readouts if stream != key]
    order = [key, *others] if key in readouts else others
    if prefer_cross and modality == "image":
        order = [*others, key]
    for stream in order:
        found = capture.maps_between(stream, key)
        if found and stream in readouts:
            return found, readouts[stream]
    raise NotApplicableError(f"no attention map leads from a token that is read to the {modality}")
