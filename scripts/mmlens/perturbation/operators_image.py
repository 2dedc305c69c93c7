"""Operators that put other pixels in the place of patches and embed the image again."""

import math
from abc import abstractmethod
from dataclasses import replace

import torch
import torch.nn.functional as F

from ..explanation import NotApplicableError
from . import register_operator
from .operators import Whole, needed


class PixelFill(Whole):
    """Base: the pixels of removed patches, of the model's processed image, become others.

    The pixels of a patch are those of its cell of the grid, whatever a convolution sees beside it.
    """

    def __init__(self, model, modality, tokens, inputs=None):
        super().__init__(model, modality, tokens, inputs)
        if model.frozen:
            raise NotApplicableError("it reads cached features, no pixels")
        batch = needed(inputs, self.name).batch
        self.pixels = batch.image[batch.image_rows]
        rows, columns = model.grid
        self.cells = (self.pixels.shape[2] // rows, self.pixels.shape[3] // columns)
        self.fill = self.filled()

    @abstractmethod
    def filled(self):
        """(N, 3, H, W), or broadcast to it: what is seen where a patch is removed."""

    def show(self, rows, plans):
        fill = self.fill.expand_as(self.pixels)[rows]
        image = torch.where(self.seen(rows, plans), self.pixels[rows], fill)
        numbers = torch.arange(len(rows), device=image.device)
        batch = replace(self.inputs.batch, image=image, image_rows=numbers)
        return {self.modality: self.model.embed_image(batch)}

    def seen(self, rows, plans):
        """Bool (K, 1, H, W): pixels of patches that remain; what lies beyond the last cell goes
        with it."""
        (high, wide), grid = self.pixels.shape[2:], self.model.grid
        shown = plans[self.content[rows]].view(len(rows), *grid)
        y, x = (
            (torch.arange(side, device=plans.device) // cell).clamp(max=count - 1)
            for side, cell, count in zip((high, wide), self.cells, grid, strict=True)
        )
        return shown[:, y][:, :, x][:, None]


@register_operator("mean_fill", modalities=("image",))
class MeanFill(PixelFill):
    """The mean colour of the image."""

    def filled(self):
        return self.pixels.mean((2, 3), keepdim=True)


@register_operator(
    "blur",
    modalities=("image",),
    arguments={"sigma": {"type": "number", "exclusiveMinimum": 0}},
)
class Blur(PixelFill):
    """The image blurred by a Gaussian, as in RISE (Petsiuk et al. 2018).

    sigma : standard deviation, in sides of a patch
    """

    def __init__(self, *arguments, sigma=0.5):
        self.sigma = sigma
        super().__init__(*arguments)

    def filled(self):
        blurred = self.pixels
        for axis, cell in zip((2, 3), self.cells, strict=True):
            blurred = blur_along(blurred, axis, self.sigma * cell)
        return blurred


def blur_along(pixels, axis, sigma):
    """Pixels (N, C, H, W) blurred along one axis; the edges are continued as they are.

    sigma : in pixels; the Gaussian is cut at three of them
    """
    reach = max(1, math.ceil(3 * sigma))
    offsets = torch.arange(-reach, reach + 1, device=pixels.device, dtype=pixels.dtype)
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    weights = weights / weights.sum()
    kernel = weights.view(1, 1, -1, 1) if axis == 2 else weights.view(1, 1, 1, -1)
    edges = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
    planes = F.pad(pixels.flatten(0, 1)[:, None], edges, mode="replicate")
    return F.conv2d(planes, kernel).view_as(pixels)


@register_operator("other_image", modalities=("image",), sources="donors")
class OtherImage(PixelFill):
    """The same patches of another image, one per sample, of another cluster (sources.py)."""

    def filled(self):
        if self.inputs.donors is None:
            raise NotApplicableError("there is no image of another cluster")
        return self.inputs.donors
