"""Small batches of texts and pixels for METER."""

import torch

from mmlens.models.inputs import Batch


def make_batch(side=48, dtype=torch.float64):
    """Three samples of six words, two of them padding in the first, and images of noise."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 30, (3, 6), generator=generator)
    shown = torch.ones_like(ids, dtype=torch.bool)
    shown[0, 4:] = False
    content = shown.clone()
    content[:, 0] = False
    pixels = torch.randn(3, 3, side, side, generator=generator, dtype=dtype)
    return Batch(ids, shown, content, pixels, torch.arange(3))


@torch.no_grad()
def logits_of(model, batch):
    return model(model.embed(batch))
