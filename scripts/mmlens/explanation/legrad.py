"""LeGrad: the sensitivity of a decision to attention, layer by layer."""

from . import register_method
from .propagation import check_maps


@register_method("legrad", class_specific=True)
def legrad(capture):
    """LeGrad (Bousselham et al. 2024): mean over layers of the positive gradients of attention.

    Of every map that reads the modality's stream, self- and cross-attention and attention
    pooling, the mean over heads and valid queries of ReLU(ds/dA) at each key; the mean over
    these maps is the relevance. The paper takes for s a readout of each layer of its own, which
    only models with one pooled token and a head for every layer have; here s is the explained
    logit itself for all layers, so that every architecture is read alike.
    Returns {modality: (B, N)}.
    """
    check_maps(capture)
    relevance = {}
    for modality, span in capture.layout.spans.items():
        per_layer = []
        for m in capture.maps:
            if m.key == span.stream:
                queries = capture.layout.valid[m.query][:, :, None]
                summed = (m.sensitivity * queries).sum(1)[:, span.slice]
                per_layer.append(summed / queries.sum(1))
        relevance[modality] = sum(per_layer) / len(per_layer)
    return relevance
