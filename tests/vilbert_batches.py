"""Small batches of two texts and their regions for ViLBERT, and how closely results agree."""

import torch
import torch.nn.functional as F

from mmlens.models.inputs import Batch


def make_batch(regions=5, words=4, padding=0):
    """Two samples with `regions` regions each, and rows of padding after them."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 30, (2, words + 2), generator=generator)
    features = torch.randn(2, 5, 6, generator=generator).double()[:, :regions]
    corners = torch.rand(2, 5, 2, 2, generator=generator).double().sort(2).values
    boxes = corners.flatten(2)[:, :regions]
    valid = F.pad(torch.ones(2, regions, dtype=torch.bool), (0, padding))
    features, boxes = (F.pad(x, (0, 0, 0, padding)) for x in (features, boxes))
    shown = torch.ones_like(ids, dtype=torch.bool)
    content = shown.clone()
    content[:, [0, -1]] = False
    return Batch(ids, shown, content, features, torch.arange(2), boxes, valid)


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
