"""Deep spectral methods: the graph of similarities between the tokens of a modality.

The Fiedler vector of that graph, its smoothest partition, tells the tokens of an object from all
others without a label (Melas-Kyriazi et al., CVPR 2022); weighed by attention and its gradient it
becomes an explanation of one decision, as published for METER.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from . import NotApplicableError, register_method
from .maps import Maps

FEWEST = 4  # content tokens; with fewer there is no third eigenvalue to be apart from
GAP = 1e-5  # eigenvalues closer than this are one and the same
ABOVE = 4  # added to the eigenvalues of padding; those of the tokens are at most 2


@dataclass(frozen=True)
class Fiedler:
    """Fiedler vectors of B graphs.

    vector : (B, N), 0 at all other tokens and where it is not defined
    eigengap : (B,), the smaller of the distances of the second smallest eigenvalue to its
        neighbours; NaN with too few tokens
    components : (B,), number of parts of the graph that nothing connects
    flags : B strings, why the vector is not defined; "" where it is
    """

    vector: torch.Tensor
    eigengap: torch.Tensor
    components: torch.Tensor
    flags: list


@register_method("dsmi", class_specific=False, arguments={"sign": {"enum": ["abs", "minority"]}})
def dsmi(capture, sign="abs"):
    """Deep spectral method: the Fiedler vector of a modality's last features.

    Features are those after the last layer of `Capture.layers`, its state as the next one would
    read it. sign : "abs", the size of the entries, as published, or "minority", the entries
    themselves, turned so that the smaller part is positive. A sample whose vector is not defined
    has a map of zeros and a flag that says why (see `fiedler`). Returns Maps of (B, N).
    """
    return spectral(capture, lambda _, relevance: relevance, slice(-1, None), sign)


@register_method(
    "dsmi_grad",
    class_specific=True,
    arguments={"layers": {"enum": ["first", "all"]}, "sign": {"enum": ["abs", "minority"]}},
)
def dsmi_grad(capture, layers="first", sign="abs"):
    """DSMI weighed by the gradient of self-attention: sum over layers of g |u|.

    g is the mean over heads of ReLU(G), among content tokens, and u the Fiedler vector of the
    features after the same layer. layers : "first", as in the published numbers of METER, which
    read one layer alone, or "all" of `Capture.layers`; sign : see `dsmi`. Returns Maps of (B, N).
    """
    return spectral(
        capture, lambda m, u: (m.sensitivity @ u[..., None])[..., 0], chosen(layers), sign
    )


@register_method(
    "dsmi_grad_attn",
    class_specific=True,
    arguments={"layers": {"enum": ["first", "all"]}, "sign": {"enum": ["abs", "minority"]}},
)
def dsmi_grad_attn(capture, layers="first", sign="abs"):
    """DSMI weighed by self-attention and its gradient: sum over layers of E |u|.

    E is the mean over heads of ReLU(G * A); all else as in `dsmi_grad`. Returns Maps of (B, N).
    """
    return spectral(
        capture, lambda m, u: (m.relevance @ u[..., None])[..., 0], chosen(layers), sign
    )


def chosen(layers):
    """Which layers "first" and "all" are."""
    return {"first": slice(1), "all": slice(None)}[layers]


def spectral(capture, weigh, layers, sign):
    """Sum over layers of weighed Fiedler vectors, with the flags and facts of its samples.

    weigh : function (AttentionMap, (B, K) over its stream) -> (B, K)
    layers : slice of `Capture.layers`

    Raises
    ------
    NotApplicableError to a model with a modality without layers of self-attention
    """
    maps = Maps()
    for modality, span in capture.layout.spans.items():
        content = capture.layout.content[modality]
        found = capture.layers[modality][layers]
        if not found:
            raise NotApplicableError(f"the model has no self-attention among its {modality} tokens")
        total, graphs = 0, []
        for features, attention_map in found:
            graphs.append(graph := fiedler(features, content))
            u = graph.vector.abs() if sign == "abs" else minority(graph.vector, content)
            width = capture.layout.valid[span.stream].shape[1]
            in_stream = F.pad(u, (span.start, width - span.stop))
            total = total + weigh(attention_map, in_stream)[:, span.slice]
        flags = [next(filter(None, f), "") for f in zip(*(g.flags for g in graphs), strict=True)]
        defined = torch.tensor([not flag for flag in flags], device=content.device)
        maps[modality] = torch.where(content & defined[:, None], total, 0)
        maps.flags[modality] = flags
        maps.facts[modality] = {
            "eigengap": torch.stack([g.eigengap for g in graphs]).amin(0).tolist(),
            "components": torch.stack([g.components for g in graphs]).amax(0).tolist(),
        }
    return maps


def fiedler(features, content):
    """Fiedler vectors of the graphs of positive cosines between content tokens.

    With X the normalised features and W = max(0, X X^T), it is the eigenvector of the second
    smallest eigenvalue of (D - W) u = lambda D u, D = diag(W 1), scaled to u^T D u = 1. Solved
    in double precision as u = D^-1/2 v with the symmetric I - D^-1/2 W D^-1/2, for all samples
    at once: padding and special tokens are eigenvectors of their own, above all others.

    It is arbitrary, and so flagged and 0, with fewer than FEWEST content tokens, in a graph of
    several components, and where its eigenvalue is another one's too, up to GAP. The published
    code breaks down there, or returns another vector in every run.

    features : (B, N, D); content : bool (B, N). Returns Fiedler.
    """
    finite = (features.isfinite().all(-1) | ~content).all(1)
    shown = content & finite[:, None]
    x = F.normalize(torch.where(shown[..., None], features, 0).double(), dim=-1)
    similarity = (x @ x.mT).relu()
    degree = similarity.sum(-1)
    # A token of zeros has no neighbour, not even itself: it stands apart with an eigenvalue of 1.
    scale = torch.where(degree > 0, degree, 1).rsqrt()
    laplacian = torch.diag_embed(torch.where(shown, 1.0, 1.0 + ABOVE))
    laplacian = laplacian - scale[:, :, None] * similarity * scale[:, None, :]
    values, vectors = torch.linalg.eigh(laplacian)
    count = shown.sum(1)
    values = F.pad(values, (0, max(0, FEWEST - values.shape[1])), value=float("nan"))
    gaps = values.diff()[:, :2].amin(1)
    eigengap = torch.where(count < FEWEST, float("nan"), gaps)
    components = (values[:, : features.shape[1]] < GAP).sum(1)
    facts = zip(
        finite.tolist(), count.tolist(), components.tolist(), eigengap.tolist(), strict=True
    )
    flags = [why(*each) for each in facts]
    defined = torch.tensor([not flag for flag in flags], device=content.device)
    vector = scale * vectors[..., min(1, vectors.shape[-1] - 1)]
    vector = torch.where(shown & defined[:, None], vector, 0).to(features.dtype)
    return Fiedler(vector, eigengap, components, flags)


def why(finite, count, components, eigengap):
    """Why a Fiedler vector is not defined; "" where it is."""
    if not finite:
        return "features not finite"
    if count < FEWEST:
        return f"{count} tokens"
    if components > 1:
        return f"{components} components"
    return "eigengap" if eigengap < GAP else ""


def minority(vector, content):
    """`vector` (B, N) turned so that at most half of its content entries are positive.

    The smaller part is taken for the object (Melas-Kyriazi et al. 2022); of two halves, the one
    with the largest entry.
    """
    largest = vector.gather(1, vector.abs().argmax(1, keepdim=True))
    vector = torch.where(largest < 0, -vector, vector)
    positive = ((vector > 0) & content).sum(1) / content.sum(1).clamp(min=1)
    turned = (positive > 0.5) & (positive < 1)
    return torch.where(turned[:, None], -vector, vector)
