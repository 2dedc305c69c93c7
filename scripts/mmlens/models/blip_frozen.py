"""blip_scratch on frozen features: what an extractor offers without being trained further."""

from . import register_model
from .blip_scratch import BlipScratch


@register_model("blip_frozen", modalities=("text", "image"), frozen=True)
class BlipFrozen(BlipScratch):
    """Reads the cached features of an extractor (section features) in place of pixels."""
