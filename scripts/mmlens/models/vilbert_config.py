"""Sizes of ViLBERT, by the keys of its published config file."""

from dataclasses import dataclass, fields

from ..registry import unknown
from .sizes import is_like

# What the network can only be, by key of a config file.
FIXED = {
    "hidden_act": "gelu",
    "v_hidden_act": "gelu",
    "bi_attention_type": 1,
    "dynamic_attention": False,
}
# Keys of a config file that must agree with another one, which this code reads instead.
SAME = {
    "v_hidden_dropout_prob": "hidden_dropout_prob",
    "v_attention_probs_dropout_prob": "attention_probs_dropout_prob",
    "v_initializer_range": "initializer_range",
}
# Keys of a config file that no part of the network reads.
REMARKS = (
    *("bi_intermediate_size", "max_regions_official", "max_regions_mmf"),
    *("seed_weights", "seed_inputs", "seed_extra"),
    *("architectures", "dtype", "model_type", "torch_dtype", "transformers_version"),
)


@dataclass(frozen=True)
class VilbertConfig:
    """Sizes; the defaults are those of the published checkpoints.

    Without prefix: the text stream; v_: the region stream; bi_: co-attention.
    t_biattention_id[k] text layers and v_biattention_id[k] region layers come before
    co-attention k. task_count is the number of task tokens, 20 in the multi-task model.
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    v_feature_size: int = 2048
    v_target_size: int = 1601
    v_hidden_size: int = 1024
    v_num_hidden_layers: int = 6
    v_num_attention_heads: int = 8
    v_intermediate_size: int = 1024
    bi_hidden_size: int = 1024
    bi_num_attention_heads: int = 8
    v_biattention_id: tuple = (0, 1, 2, 3, 4, 5)
    t_biattention_id: tuple = (6, 7, 8, 9, 10, 11)
    task_count: int = 0
    num_labels: int = 2
    fusion_method: str = "mul"
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    initializer_range: float = 0.02

    def __post_init__(self):
        problems = []
        for size, heads in (
            ("hidden_size", "num_attention_heads"),
            ("v_hidden_size", "v_num_attention_heads"),
            ("bi_hidden_size", "bi_num_attention_heads"),
        ):
            if getattr(self, size) % getattr(self, heads):
                problems.append(
                    f"{size}: found {getattr(self, size)}, expected a multiple of {heads} "
                    f"({getattr(self, heads)})"
                )
        for key, layers in (
            ("t_biattention_id", self.num_hidden_layers),
            ("v_biattention_id", self.v_num_hidden_layers),
        ):
            numbers = getattr(self, key)
            if list(numbers) != sorted(numbers) or not all(0 <= n <= layers for n in numbers):
                problems.append(
                    f"{key}: found {list(numbers)}, expected increasing numbers of 0 to {layers}"
                )
        if len(self.t_biattention_id) != len(self.v_biattention_id):
            problems.append(
                f"t_biattention_id: found {len(self.t_biattention_id)} numbers, expected as many "
                f"as in v_biattention_id ({len(self.v_biattention_id)})"
            )
        if self.fusion_method not in ("mul", "sum"):
            problems.append(f"fusion_method: found {self.fusion_method!r}, expected mul or sum")
        if problems:
            raise ValueError("; ".join(problems))

    def order(self):
        """All layers in the order of the forward pass, as (kind, number).

        kind : "text", "regions" or "exchange". As published: text 0 to 5, exchange 0, text 6,
        regions 0, exchange 1, text 7, regions 1, ... exchange 5, text 11, regions 5.
        """
        order, text, regions = [], 0, 0
        stops = zip(self.t_biattention_id, self.v_biattention_id, strict=True)
        for exchange, (t, v) in enumerate(stops):
            order += [("text", k) for k in range(text, t)]
            order += [("regions", k) for k in range(regions, v)]
            order.append(("exchange", exchange))
            text, regions = t, v
        order += [("text", k) for k in range(text, self.num_hidden_layers)]
        return order + [("regions", k) for k in range(regions, self.v_num_hidden_layers)]

    @classmethod
    def from_dict(cls, values):
        """A config of a parsed config file; keys left out keep their defaults.

        Raises
        ------
        ValueError naming every key that is unknown, or that asks for another network.
        """
        if not isinstance(values, dict):
            raise ValueError("expected an object of keys and values")
        defaults = {field.name: field.default for field in fields(cls)}
        own = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        if "pooling_method" in own:  # so called in the published file
            own["fusion_method"] = own.pop("pooling_method")
        wanted = FIXED | {key: own.get(same, defaults[same]) for key, same in SAME.items()}
        problems = []
        for key, value in own.items():
            if key in defaults and not is_like(value, defaults[key]):
                problems.append(
                    f"{key}: found {value!r}, expected a value such as {defaults[key]!r}"
                )
            elif key in wanted and value != wanted[key]:
                problems.append(f"{key}: found {value!r}, expected {wanted[key]!r}")
            elif key not in (*defaults, *wanted, *REMARKS):
                problems.append(unknown("key", key, [*defaults, *wanted]))
        if problems:
            raise ValueError("; ".join(problems))
        return cls(**{key: value for key, value in own.items() if key in defaults})
