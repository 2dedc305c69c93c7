"""The published protocol on METER as the published code runs it: the baseline of explanations.py.

One sample, one method, one modality, one direction and one step at a time. Every run of a method
computes the model and its gradients anew, those of the weights too; every test computes the image
tower anew, every step the tower of words and the cross-modal layers. Gradients stay switched on in
the tests, as they are there, since the hooks of the attention maps ask for them. Left out is what
only costs time: collecting garbage after every test, reading the image file again.

The formulas are written out for one sample with the first and last word special, apart from those
of the library, whose weights alone are used. Only where relevance ties, the order of the published
code, that of topk, is replaced by that of the library: both are arbitrary.
"""

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import eigs

from mmlens.perturbation.engine import PUBLISHED_STEPS, removal_order


class PlainMeter:
    """METER on one sample, its attention maps and their gradients.

    model : Meter with `image_tokens: encoded`; it is used by this class alone, since hooks stay
    """

    def __init__(self, model):
        self.network = network = model.network
        model.use_attention("eager")
        for block in network.visual.transformer["resblocks"]:
            block.attn.eager = False  # the published tower runs PyTorch's own attention
        self.attention, self.gradient = {}, {}
        self.encoder = [layer.probabilities for layer in network.text_layers]
        self.pairs = [
            {
                f"{stream}_{kind}": module
                for stream, layer in zip(("text", "image"), pair, strict=True)
                for kind, module in (
                    ("self", layer.probabilities),
                    ("cross", layer.crossattention["self"].probabilities),
                )
            }
            for pair in network.pairs()
        ]
        for module in [*self.encoder, *(m for pair in self.pairs for m in pair.values())]:
            module.register_forward_hook(self.keep)

    def keep(self, module, _inputs, attention):
        self.attention[module] = attention
        attention.register_hook(partial(self.gradient.__setitem__, module))

    def embed(self, sample):
        """Embedded words (1, T, D) and the last states of the image tower (1, N, D)."""
        ids, pixels = sample
        valid = torch.ones(ids.shape, dtype=torch.bool)
        words = self.network.text_transformer["embeddings"](ids, valid)
        patches = self.network.visual.embed(pixels)
        return words, self.network.visual(patches, torch.ones(patches.shape[:2], dtype=torch.bool))

    def read(self, words, image):
        """Logits (1, C), and both streams after every cross-modal pair, as (T, D) and (N, D)."""
        network, kinds = self.network, self.network.token_type_embeddings.weight
        shown, seen = (torch.ones(x.shape[:2], dtype=torch.bool) for x in (words, image))
        x = network.encode_text(words, shown)
        y = network.cross_modal_image_transform(image) + kinds[1]
        states = []
        for by_text, by_image in network.pairs():
            x, y = by_text(x, shown, y, seen), by_image(y, seen, x, shown)
            states.append((x[0].detach().clone(), y[0].detach().clone()))
        return network.vqa_classifier(network.fuse(x, y)), states

    def explain(self, sample, method):
        """Relevance of the words (T,) and of the image tokens (N,) for the answer."""
        logits, states = self.read(*self.embed(sample))
        self.network.zero_grad()
        logits.max().backward()
        return METHODS[method](self, states)

    def perturb(self, sample, order, modality):
        """Answers (numbers) at the published steps.

        order : numbers of the tokens of a modality, the first of which are kept
        """
        words, image = self.embed(sample)
        found = []
        for step in PUBLISHED_STEPS:
            kept = sorted(1 + k for k in order[: int((1 - step) * len(order))])
            if modality == "text":
                logits, _ = self.read(words[:, [0, *kept, words.shape[1] - 1]], image)
            else:
                logits, _ = self.read(words, image[:, [0, *kept]])
            found.append(logits.argmax().item())
        return found

    def test(self, sample, sample_id, method, modality, positive):
        """One explanation and its test: answers at the published steps."""
        text, image = self.explain(sample, method)
        relevance = (text[1:-1] if modality == "text" else image[1:]).detach().numpy()
        order = removal_order(relevance, sample_id, method)
        return self.perturb(sample, order if positive else order[::-1], modality)

    def protocol(self, sample, sample_id):
        """{(method, modality, direction): answers} of all methods and tests of one sample."""
        return {
            (method, modality, direction): self.test(
                sample, sample_id, method, modality, direction == "positive"
            )
            for method in METHODS
            for modality in ("text", "image")
            for direction in ("positive", "negative")
        }

    def heads(self, module):
        """A and dA of a map, both (H, Q, K)."""
        return self.attention[module][0].detach(), self.gradient[module][0]

    def weighted(self, module):
        """Mean over heads of the positive part of A dA."""
        attention, gradient = self.heads(module)
        return (attention * gradient).clamp(min=0).mean(0)

    def mean(self, module):
        return self.heads(module)[0].mean(0)


def relevance(meter, _states):
    """Chefer et al. (ICCV 2021), the image's maps of a pair first, without normalisation."""
    pair = meter.pairs[0]
    texts, patches = meter.mean(pair["text_cross"]).shape
    tt, ii = torch.eye(texts), torch.eye(patches)
    ti, it = torch.zeros(texts, patches), torch.zeros(patches, texts)
    for module in meter.encoder:
        tt = tt + meter.weighted(module) @ tt
    for pair in meter.pairs:
        own, cross = meter.weighted(pair["image_self"]), meter.weighted(pair["image_cross"])
        ii, it = ii + own @ ii, it + own @ it
        it, ii = it + ii.T @ cross @ tt, ii + cross @ ti
        own, cross = meter.weighted(pair["text_self"]), meter.weighted(pair["text_cross"])
        tt, ti = tt + own @ tt, ti + own @ ti
        ti, tt = ti + tt.T @ cross @ ii, tt + cross @ it
    return tt[0], ii[0]


def rolled(maps, rule):
    """First row of the product of rule(map), the last map first."""
    product = torch.eye(len(maps[0]))
    for found in maps:
        product = rule(found) @ product
    return product[0]


def of_streams(meter, maps_of, rule):
    """`rolled` over self-attention: of words (with their tower), of image tokens."""
    text = [*meter.encoder, *(pair["text_self"] for pair in meter.pairs)]
    image = [pair["image_self"] for pair in meter.pairs]
    return tuple(rolled([maps_of(module) for module in stream], rule) for stream in (text, image))


def transformer_attribution(meter, _states):
    """Chefer et al. (CVPR 2021) without layer-wise relevance propagation."""
    return of_streams(meter, meter.weighted, lambda found: torch.eye(len(found)) + found)


def rollout(meter, _states):
    """Abnar & Zuidema (2020), per stream."""

    def rule(found):
        found = found + torch.eye(len(found))
        return found / found.sum(-1, keepdim=True)

    return of_streams(meter, meter.mean, rule)


def raw_attention(meter, _states):
    """First rows of the last self-attention maps."""
    return tuple(meter.mean(meter.pairs[-1][f"{stream}_self"])[0] for stream in ("text", "image"))


def attention_grad_cam(meter, _states):
    """Grad-CAM on the heads of the last maps from the first word, to words and to the image."""
    found = []
    for site in ("text_self", "text_cross"):
        attention, gradient = meter.heads(meter.pairs[-1][site])
        weights = gradient.mean((1, 2), keepdim=True)
        found.append((weights * attention).mean(0).clamp(min=0)[0])
    return tuple(found)


def fiedler(features):
    """Size of the entries of the Fiedler vector of features (n, D), by Arnoldi iteration."""
    x = F.normalize(features, dim=-1)
    weights = (x @ x.T).clamp(min=0)
    weights = (weights / weights.max()).numpy()
    degrees = weights.sum(1)
    degrees[degrees < 1e-12] = 1
    degrees = np.diag(degrees)
    values, vectors = eigs(degrees - weights, k=5, which="LM", sigma=-0.5, M=degrees)
    second = vectors[:, np.argsort(values.real)[1]].real
    return torch.from_numpy(np.abs(second)).float()


def spectral(meter, states, pair, weigh):
    """Fiedler vectors of both streams after a pair, weighed by that pair's self-attention.

    weigh : function of a map's module to (n, n), or None for the vectors themselves
    """
    found = []
    for stream, inner, features in zip(
        ("text", "image"), (slice(1, -1), slice(1, None)), states[pair], strict=True
    ):
        vector = fiedler(features[inner])
        if weigh is not None:
            vector = weigh(meter.pairs[pair][f"{stream}_self"])[inner, inner] @ vector
        relevance = torch.zeros(len(features))
        relevance[inner] = vector
        found.append(relevance)
    return tuple(found)


def dsmi(meter, states):
    """Deep spectral method on the last states."""
    return spectral(meter, states, -1, None)


def dsmi_grad(meter, states):
    """The same on the first pair, weighed by the positive gradient of its self-attention."""
    return spectral(meter, states, 0, lambda module: meter.heads(module)[1].clamp(min=0).mean(0))


def dsmi_grad_attn(meter, states):
    """The same, weighed by that and the attention itself."""
    return spectral(meter, states, 0, meter.weighted)


METHODS = {
    method.__name__: method
    for method in (
        *(relevance, transformer_attribution, raw_attention, attention_grad_cam, rollout),
        *(dsmi, dsmi_grad, dsmi_grad_attn),
    )
}
