"""From uint8 images to the normalised input of a network."""

import torch

# Of the models that are trained from scratch.
PLAIN = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def normalised(images, mean, std):
    """uint8 (B, 3, H, W) as float32, scaled to [0, 1], minus `mean`, over `std` per channel."""
    mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (mean, std))
    return (images.float() / 255 - mean) / std
