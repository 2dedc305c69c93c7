"""LeGrad: the sensitivity of a decision to attention, layer by layer."""

from . import register_method
from .propagation import check_maps


@register_method("legrad", class_specific=True, readouts=True)
def legrad(capture):
    """LeGrad (Bousselham et al. 2024): mean over layers of the positive gradients of attention.

    Of every map that reads the modality's stream, self- and cross-attention and attention
    pooling, the mean over heads and valid queries of ReLU(ds_l/dA) at each key; the mean over
    these maps is the relevance. s_l is what the model's own end reads out after the layer of the
    map, as in the paper, where the stream has a readout: of streams read at one token, the maps
    of that token alone count. Layers before the first cross-attention, and streams that the
    classifier reads only through another one, have none; there s is the explained logit.
    Returns {modality: (B, N)}.
    """
    check_maps(capture)
    relevance = {}
    for modality, span in capture.layout.spans.items():
        per_layer = []
        for m in capture.maps:
            if m.key == span.stream:
                queries = capture.layout.valid[m.query][:, :, None]
                summed = (m.layer_sensitivity * queries).sum(1)[:, span.slice]
                per_layer.append(summed / queries.sum(1))
        relevance[modality] = sum(per_layer) / len(per_layer)
    return relevance
