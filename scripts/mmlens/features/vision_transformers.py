"""Patches of frozen vision transformers, loaded by the stock classes of transformers."""

from pathlib import Path

from huggingface_hub import snapshot_download
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    CLIPVisionModelWithProjection,
    Dinov2Model,
    SiglipVisionModel,
)

from ..table import DataError
from . import register_extractor
from .base import Extractor, Geometry, weights_hash
from .normalise import normalised

INTERPOLATION = {2: "bilinear", 3: "bicubic"}


class VisionTransformer(Extractor):
    """Last hidden states of the patches, and the model's own pooled vector.

    weights : folder in the format of transformers' save_pretrained (with its image processor),
        or the name of a repository of the model hub
    """

    architecture = None
    kinds = ()  # of config.json: model types whose image tower this is
    default = None

    def __init__(self, weights=None):
        key = f"features.settings.{self.name}.weights"
        folder = checkpoint_folder(key, weights or self.default)
        self.weights = weights_hash(folder)
        kind = AutoConfig.from_pretrained(folder).model_type
        if kind not in self.kinds:
            problem = f"{folder}: model_type: found {kind}, expected {' or '.join(self.kinds)}"
            raise DataError("weights", [problem])
        self.network, loaded = self.architecture.from_pretrained(
            folder, output_loading_info=True, use_safetensors=True, dtype="float32"
        )
        missing = sorted(loaded["missing_keys"])
        if missing:
            raise DataError("weights", [f"{folder}: no tensor {name}" for name in missing])
        self.network.eval().requires_grad_(False)
        config = self.network.config
        self.geometry, self.mean, self.std = read_processor(folder)
        sides = (self.geometry.height, self.geometry.width)
        self.grid = tuple(side // config.patch_size for side in sides)
        self.tokens, self.width = self.grid[0] * self.grid[1], config.hidden_size

    def settings(self):
        return {"weights": self.weights, "mean": self.mean, "std": self.std}

    def to(self, device):
        self.network.to(device)
        return self

    def extract(self, images):
        output = self.network(normalised(images, self.mean, self.std))
        # A leading class token is no patch.
        patches = output.last_hidden_state[:, -self.tokens :]
        return {"features": patches.cpu().numpy(), "pooled": self.pool(output).cpu().numpy()}

    def pool(self, output):
        """The model's vector (B, P) for the whole image."""
        return output.pooler_output


@register_extractor("clip")
class Clip(VisionTransformer):
    """CLIP's image tower (Radford et al. 2021): patches before the final norm, as transformers
    returns them; pooled is the projected image embedding of the zero-shot classifier."""

    architecture, kinds = CLIPVisionModelWithProjection, ("clip", "clip_vision_model")
    default = "openai/clip-vit-base-patch32"

    def pool(self, output):
        return output.image_embeds


@register_extractor("dinov2")
class DinoV2(VisionTransformer):
    """DINOv2 (Oquab et al. 2023): patches after the final norm; pooled is the class token."""

    architecture, kinds = Dinov2Model, ("dinov2",)
    default = "facebook/dinov2-base"


@register_extractor("siglip2")
class SigLip2(VisionTransformer):
    """SigLIP 2 of fixed resolution (Tschannen et al. 2025); pooled by its attention head."""

    architecture, kinds = SiglipVisionModel, ("siglip", "siglip_vision_model")
    default = "google/siglip2-base-patch16-224"


def checkpoint_folder(key, weights):
    """A local folder of a checkpoint: `weights` itself, or what the hub has under that name.

    key : of the config, for the message of a DataError
    """
    if Path(weights).is_dir():
        return Path(weights)
    try:
        return Path(snapshot_download(weights, allow_patterns=["*.json", "*.txt", "*.safetensors"]))
    except Exception as error:  # the hub's client and its HTTP library raise a dozen kinds
        problem = f"{key}: {weights} is no folder, and the hub did not give it ({error})"
        raise DataError("features", [problem]) from None


def read_processor(folder):
    """(Geometry, mean, std) of the image processor beside a checkpoint."""
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    interpolation = INTERPOLATION.get(int(processor.resample))
    if interpolation is None or not processor.do_resize or not processor.do_normalize:
        raise DataError("features", [f"{folder}: image processor {processor} is not supported"])
    shortest = processor.size.get("shortest_edge")
    if hasattr(processor, "crop_pct"):
        geometry = convnext_geometry(shortest, processor.crop_pct, interpolation)
    else:
        size = processor.size
        if not shortest and processor.do_center_crop and processor.crop_size != size:
            problem = f"{folder}: its image processor cuts from a stretched image; not supported"
            raise DataError("features", [problem])
        result = processor.crop_size if shortest else size
        geometry = Geometry(result["height"], result["width"], shortest, interpolation)
    return geometry, list(processor.image_mean), list(processor.image_std)


def convnext_geometry(size, share, interpolation):
    """`Geometry` of the image processor of ConvNeXT, which ResNets have too.

    Below 384 pixels, `size` is that of a square cut out of the middle, whose sides are a `share` of
    the resized image's shorter one; from 384 on the image is stretched.
    """
    shortest = int(size / share) if size < 384 else None
    return Geometry(size, size, shortest, interpolation)
