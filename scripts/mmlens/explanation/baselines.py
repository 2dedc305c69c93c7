"""What an explanation must beat: a random order and the prior that things are in the middle."""

import torch

from ..files import seed_from
from . import register_method
from .maps import for_all_tokens


@register_method("random", class_specific=False, pieces="first")
def random(capture, draw=0):
    """Uniform random relevance, keyed by sample and draw. Returns {modality: (B, N)}."""
    relevance = {}
    for modality, content in capture.layout.content.items():
        rows = []
        for sample_id in capture.sample_ids:
            seed = seed_from("random relevance", modality, draw, sample_id)
            generator = torch.Generator().manual_seed(seed)
            rows.append(torch.rand(content.shape[1], generator=generator))
        relevance[modality] = torch.stack(rows).to(content.device)
    return relevance


@register_method("centre_prior", class_specific=False, pieces="first")
def centre_prior(capture):
    """Closeness to the centre: of the image for patches and regions, of the text for words.

    1 at the centre, falling linearly with the distance of a token's middle to 0 at the farthest
    patch of a grid, or at the image's corners for regions. Returns {modality: (B, N)}.
    """
    relevance = {}
    for modality, content in capture.layout.content.items():
        if modality == "image":
            closeness = image_closeness(capture).to(content.device).expand(len(content), -1)
            relevance[modality] = for_all_tokens(closeness, content)
        else:
            position = content.cumsum(1).float()
            middle = (content.sum(1, keepdim=True) + 1) / 2
            relevance[modality] = 1 - (position - middle).abs() / middle
    return relevance


def image_closeness(capture):
    """Closeness (B or 1, N) of the patches or regions to the middle of the image."""
    if capture.boxes is not None:
        x, y = ((capture.boxes[..., k] + capture.boxes[..., k + 2]) - 1 for k in (0, 1))
        return 1 - torch.hypot(x, y) / 2**0.5
    rows, columns = (torch.linspace(-1, 1, size) for size in capture.layout.grid)
    distance = torch.hypot(rows[:, None], columns[None, :]).flatten()
    return (1 - distance / distance.max())[None]
