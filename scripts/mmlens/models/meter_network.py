"""METER: RoBERTa and CLIP's image tower, joined by cross-modal layers (Dou et al. 2022).

The modules carry the names of the published checkpoints, so that their keys are these. Text and
cross-modal layers are BERT's (post-norm, exact GELU), those of the image tower CLIP's (pre-norm,
x sigmoid(1.702 x) in the place of GELU).
"""

import torch
import torch.nn.functional as F
from torch import nn

from .bert_layers import Dense, Layer
from .layers import DotProductAttention, RecomputedLayer, Stem
from .meter_config import MeterConfig

# What may stand on the trunk: two heads of the pretraining, that of VQA, and ours of two classes.
HEADS = ("words", "matching", "answers", "classifier")


class TextEmbeddings(nn.Module):
    """Words, positions and the one segment of RoBERTa, normalised."""

    def __init__(self, config):
        super().__init__()
        width = config.text_hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, width)
        self.position_embeddings = nn.Embedding(config.text_max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(config.text_type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, config.text_layer_norm_eps)
        self.dropout = nn.Dropout(config.text_drop_rate)
        self.first = config.pad_token_id

    def forward(self, input_ids, valid):
        """Long (B, T) and bool (B, T), False for padding -> (B, T, D)."""
        positions = self.first + valid.long().cumsum(1) * valid
        x = self.word_embeddings(input_ids) + self.position_embeddings(positions)
        return self.dropout(self.LayerNorm(x + self.token_type_embeddings.weight[0]))


class FusedAttention(DotProductAttention):
    """Self-attention with the fused input layer of nn.MultiheadAttention, by its names."""

    def __init__(self, width, heads):
        super().__init__(heads)
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x, valid):
        query, key, value = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        return self.out_proj(self.attend(query, key, value, valid))


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x), as CLIP was trained."""

    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class VisionBlock(RecomputedLayer):
    """A layer of CLIP (Radford et al. 2021): x (B, N, D) -> (B, N, D)."""

    def __init__(self, width, heads):
        super().__init__()
        self.attn = FusedAttention(width, heads)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", QuickGELU())
        self.mlp.add_module("c_proj", nn.Linear(4 * width, width))
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x, valid):
        """valid : bool (B, N), False for tokens that must not be attended to."""
        x = x + self.attn(self.ln_1(x), valid)
        return x + self.mlp(self.ln_2(x))


class VisionTower(nn.Module):
    """CLIP's image tower without its last layer and its projection.

    The class token comes first; all tokens are normalised after the last layer.
    """

    def __init__(self, config):
        super().__init__()
        width, patch = config.vision_width, config.patch_size
        self.stem = self.conv1 = None
        if config.patch_embedding == "stem":
            self.stem = Stem(width)
        else:
            self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        tokens = 1 + config.grid[0] * config.grid[1]
        self.class_embedding = nn.Parameter(width**-0.5 * torch.randn(width))
        self.positional_embedding = nn.Parameter(width**-0.5 * torch.randn(tokens, width))
        self.ln_pre = nn.LayerNorm(width)
        blocks = (VisionBlock(width, config.vision_heads) for _ in range(config.vision_layers - 1))
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList(blocks)})
        self.ln_post = nn.LayerNorm(width)

    def embed(self, pixels):
        """Pixels (B, 3, S, S) -> class token and patches with their positions, (B, 1 + P, D)."""
        convolve = self.conv1 if self.stem is None else self.stem
        patches = convolve(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(patches), 1, -1)
        return self.ln_pre(torch.cat([first, patches], 1) + self.positional_embedding)

    def forward(self, x, valid):
        """Tokens of `embed`, some of which may be missing -> their last states, normalised."""
        for block in self.transformer["resblocks"]:
            x = block(x, valid)
        return self.ln_post(x)


class Pooler(nn.Module):
    """tanh(Linear(first token)): (B, N, D) -> (B, D)."""

    def __init__(self, width):
        super().__init__()
        self.dense = nn.Linear(width, width)

    def forward(self, x):
        return self.dense(x[:, 0]).tanh()


class WordHead(nn.Module):
    """Scores of all words for masked-word modelling; its decoder is not the word embedding."""

    def __init__(self, config):
        super().__init__()
        width = config.hidden_size
        self.transform = Dense(width, width, config.layer_norm_eps)
        self.decoder = nn.Linear(width, config.vocab_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, text):
        """States (B, T, D) -> (B, T, vocabulary)."""
        return self.decoder(self.transform(text)) + self.bias


class MatchingHead(nn.Module):
    """Whether text and image belong together: both pooled streams (B, 2 D) -> (B, 2)."""

    def __init__(self, width):
        super().__init__()
        self.fc = nn.Linear(width, 2)

    def forward(self, fused):
        return self.fc(fused)


def classifier(width, classes):
    """The published classifier of VQA, in its sizes: both pooled streams (B, 2 D) -> scores."""
    return nn.Sequential(
        nn.Linear(width, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, classes)
    )


class MeterNetwork(nn.Module):
    """The trunk and heads.

    Parameters
    ----------
    config : MeterConfig
    heads : of HEADS
    answers : number of answers of the head "answers"
    """

    def __init__(self, config=None, heads=("answers",), answers=3129):
        super().__init__()
        self.config = config = config or MeterConfig()
        width, inner = config.hidden_size, config.mlp_ratio * config.hidden_size
        text = (config.text_hidden_size, config.text_num_attention_heads)
        text += (config.text_intermediate_size, config.text)
        layers = nn.ModuleList(Layer(*text) for _ in range(config.text_num_hidden_layers))
        self.text_transformer = nn.ModuleDict(
            {"embeddings": TextEmbeddings(config), "encoder": nn.ModuleDict({"layer": layers})}
        )
        self.vit_model = nn.ModuleDict({"visual": VisionTower(config)})
        self.cross_modal_text_transform = nn.Linear(config.text_hidden_size, width)
        self.cross_modal_image_transform = nn.Linear(config.vision_width, width)
        self.token_type_embeddings = nn.Embedding(2, width)
        for stream in ("text", "image"):
            stack = nn.ModuleList(
                Layer(width, config.num_heads, inner, config.cross, cross=True)
                for _ in range(config.num_top_layer)
            )
            self.add_module(f"cross_modal_{stream}_layers", stack)
            self.add_module(f"cross_modal_{stream}_pooler", Pooler(width))
        if "words" in heads:
            self.mlm_score = WordHead(config)
        if "matching" in heads:
            self.itm_score = MatchingHead(2 * width)
        if "answers" in heads:
            self.vqa_classifier = classifier(2 * width, answers)
        if "classifier" in heads:
            self.classifier = classifier(2 * width, 2)
        self.apply(self.initialise)

    def initialise(self, module):
        """Normal weights and zero biases, as METER's own layers start."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, FusedAttention):
            nn.init.normal_(module.in_proj_weight, std=self.config.initializer_range)

    @property
    def visual(self):
        """The image tower."""
        return self.vit_model["visual"]

    @property
    def text_layers(self):
        """The layers of RoBERTa."""
        return self.text_transformer["encoder"]["layer"]

    def pairs(self):
        """The cross-modal layers as (layer of the text, layer of the image)."""
        return list(zip(self.cross_modal_text_layers, self.cross_modal_image_layers, strict=True))

    def encode_text(self, text, valid):
        """Embedded words (B, T, D), bool (B, T) -> what the cross-modal layers read."""
        for layer in self.text_layers:
            text = layer(text, valid)
        return self.enter_text(text)

    def enter_text(self, text):
        """Last states (B, T, D) of RoBERTa -> what the cross-modal layers read."""
        return self.cross_modal_text_transform(text) + self.token_type_embeddings.weight[0]

    def encode_image(self, image, valid):
        """Embedded patches (B, N, D), bool (B, N) -> what the cross-modal layers read."""
        return self.enter_image(self.visual(image, valid))

    def enter_image(self, image):
        """Last states (B, N, D) of the image tower, normalised -> what those layers read."""
        return self.cross_modal_image_transform(image) + self.token_type_embeddings.weight[1]

    def join(self, text, text_valid, image, image_valid, start=0, read=None):
        """The cross-modal layers; both of a pair read the other stream from before the pair.

        start : the pair to begin with; read : how many states the last pair gives, None for all
        """
        pairs = self.pairs()
        for number, (by_text, by_image) in enumerate(pairs[start:], start + 1):
            wanted = read if number == len(pairs) else None
            text, image = (
                by_text(text, text_valid, image, image_valid, wanted),
                by_image(image, image_valid, text, text_valid, wanted),
            )
        return text, image

    def fuse(self, text, image):
        """What the classifiers read of the last states: both pooled streams, (B, 2 D)."""
        pooled = self.cross_modal_text_pooler(text), self.cross_modal_image_pooler(image)
        return torch.cat(pooled, -1)
