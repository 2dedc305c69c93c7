"""What an explanation must beat: a random order and the prior that things are in the middle."""

import torch

from ..files import seed_from
from . import register_method


@register_method("random", class_specific=False)
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


@register_method("centre_prior", class_specific=False)
def centre_prior(capture):
    """Closeness to the centre: of the image for patches, of the text for words.

    1 at the centre, falling linearly with distance. Returns {modality: (B, N)}.
    """
    relevance = {}
    for modality, content in capture.layout.content.items():
        if modality == "image":
            rows, columns = (torch.linspace(-1, 1, size) for size in capture.layout.grid)
            distance = torch.hypot(rows[:, None], columns[None, :]).flatten()
            closeness = torch.cat([torch.zeros(1), 1 - distance / distance.max()])
            relevance[modality] = closeness.to(content.device).expand(len(content), -1)
        else:
            position = content.cumsum(1).float()
            middle = (content.sum(1, keepdim=True) + 1) / 2
            relevance[modality] = 1 - (position - middle).abs() / middle
    return relevance
