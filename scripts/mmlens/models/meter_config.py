"""Sizes of METER-CLIP16-RoBERTa (Dou et al. 2022)."""

from dataclasses import dataclass

from .layers import PATCH


@dataclass(frozen=True)
class LayerConfig:
    """What the layers of one kind share: dropout and the epsilon of their norms."""

    layer_norm_eps: float
    hidden_dropout_prob: float
    attention_probs_dropout_prob: float


@dataclass(frozen=True)
class MeterConfig:
    """Sizes; the defaults are those of the checkpoints pretrained at 288 pixels.

    Without prefix: METER's own keys, for the cross-modal layers and the heads; text_: those of
    RoBERTa; vision_: those of CLIP's image tower, of whose vision_layers the last is left out.
    patch_embedding: "conv" as published, or "stem", the convolutional stem of this project.
    Positions of words are counted from pad_token_id + 1.
    """

    vocab_size: int = 50265
    hidden_size: int = 768
    num_top_layer: int = 6
    num_heads: int = 12
    mlp_ratio: int = 4
    drop_rate: float = 0.1
    layer_norm_eps: float = 1e-12
    image_size: int = 288
    patch_size: int = 16
    patch_embedding: str = "conv"
    text_hidden_size: int = 768
    text_num_hidden_layers: int = 12
    text_num_attention_heads: int = 12
    text_intermediate_size: int = 3072
    text_max_position_embeddings: int = 514
    text_type_vocab_size: int = 1
    text_layer_norm_eps: float = 1e-5
    text_drop_rate: float = 0.1
    pad_token_id: int = 1
    vision_width: int = 768
    vision_layers: int = 12
    vision_heads: int = 12
    initializer_range: float = 0.02

    def __post_init__(self):
        problems = []
        for size, part in (
            ("hidden_size", "num_heads"),
            ("text_hidden_size", "text_num_attention_heads"),
            ("vision_width", "vision_heads"),
            ("image_size", "patch_size"),
        ):
            if getattr(self, size) % getattr(self, part):
                problems.append(
                    f"{size}: found {getattr(self, size)}, expected a multiple of {part} "
                    f"({getattr(self, part)})"
                )
        for key, least in (("num_top_layer", 1), ("vision_layers", 2)):
            if getattr(self, key) < least:
                problems.append(f"{key}: found {getattr(self, key)}, expected at least {least}")
        if self.patch_embedding not in ("conv", "stem"):
            problems.append(f"patch_embedding: found {self.patch_embedding!r}, expected conv, stem")
        elif self.patch_embedding == "stem" and self.patch_size != PATCH:
            problems.append(f"patch_size: found {self.patch_size}, expected {PATCH} for the stem")
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def grid(self):
        """(rows, columns) of the patches."""
        return (self.image_size // self.patch_size,) * 2

    @property
    def text(self):
        """`LayerConfig` of RoBERTa."""
        return LayerConfig(self.text_layer_norm_eps, self.text_drop_rate, self.text_drop_rate)

    @property
    def cross(self):
        """`LayerConfig` of the cross-modal layers."""
        return LayerConfig(self.layer_norm_eps, self.drop_rate, self.drop_rate)
