"""Images alone, by the stock classifiers of transformers: ViT and ResNet."""

from torch import nn
from transformers import ResNetForImageClassification, ViTForImageClassification

from . import register_model
from .base import Edge
from .folders import folder_of
from .layers import PATCH
from .regions import additive_mask
from .stock import (
    CLASSES,
    StockModel,
    check_geometry,
    checkpoint_inputs,
    difference,
    image_tokens,
    known_type,
    load_network,
    read_processor,
    stock_config,
)

LAYERS = 4  # of a ViT that starts from scratch
HEADS = ("classifier.",)


class Cells(nn.Module):
    """Cells of a feature map (B, C, rows, columns), row by row: (B, rows columns, C)."""

    def forward(self, features):
        return features.flatten(2).transpose(1, 2)


class PatchNetwork:
    """ViT: its tokens are a class token and patches, which see each other by attention."""

    architecture = ViTForImageClassification
    special = 1
    readouts = (("image", 0),)

    @staticmethod
    def sizes(width, heads, image_size):
        """Sizes of a network that starts from scratch."""
        return {
            "hidden_size": width,
            "num_attention_heads": heads,
            "num_hidden_layers": LAYERS,
            "intermediate_size": 4 * width,
            "image_size": image_size,
            "patch_size": PATCH,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "initializer_range": width**-0.5,
        }

    @staticmethod
    def grid(config, side):
        """(rows, columns) of the tokens of an image of `side` pixels."""
        return (side // config.patch_size,) * 2

    @staticmethod
    def embed(model, pixels):
        """Tokens (B, N, D) of pixels."""
        return model.network.vit.embeddings(pixels)

    @staticmethod
    def encode(model, image):
        """{stream: hidden states} of `Tokens`."""
        x, mask = image.values, additive_mask(image.valid, image.values.dtype)
        for layer in model.network.vit.layers:
            x = layer(x, attention_mask=mask)
        return {"image": model.network.vit.layernorm(x)}

    @staticmethod
    def scores(model, hidden):
        """Scores (B, C) from what `encode` gave."""
        return model.network.classifier(hidden["image"][:, 0])

    @staticmethod
    def edges(model):
        layers = model.network.vit.layers
        return [Edge(layer.attention, "image", "image", item=1) for layer in layers]

    @staticmethod
    def grad_cam_layer(model):
        """What the last layer reads: after it only the class token reaches the classifier."""
        return model.network.vit.layers[-1].layernorm_before


class CellNetwork:
    """ResNet: its tokens are the cells of the last feature map, of which the head reads the mean.

    A removed cell is left out of that mean; it stays known to its neighbours, whose receptive
    fields overlap with its own by far. Nothing is attended to.
    """

    architecture = ResNetForImageClassification
    special = 0
    readouts = ()

    @staticmethod
    def sizes(width, heads, image_size):
        return {
            "embedding_size": width // 2,
            "hidden_sizes": [width // 2, width, 2 * width],
            "depths": [1, 1, 1],
            "layer_type": "basic",
        }

    @staticmethod
    def grid(config, side):
        halvings = 2 + len(config.depths) - 1 + config.downsample_in_first_stage
        return (-(-side // 2**halvings),) * 2  # each one rounds up

    @staticmethod
    def embed(model, pixels):
        trunk = model.network.resnet
        return model.cells(trunk.encoder(trunk.embedder(pixels)).last_hidden_state)

    @staticmethod
    def encode(model, image):
        shown = image.valid[..., None].to(image.values.dtype)
        mean = (image.values * shown).sum(1, keepdim=True) / shown.sum(1, keepdim=True).clamp(min=1)
        return {"image": image.values, "mean": mean}

    @staticmethod
    def scores(model, hidden):
        return model.network.classifier(hidden["mean"][:, 0])

    @staticmethod
    def edges(model):
        return []

    @staticmethod
    def grad_cam_layer(model):
        """The last stage, as Selvaraju et al. (2017) have it."""
        return model.cells


# By the model_type of their configs.
KINDS = {"vit": PatchNetwork, "resnet": CellNetwork}


@register_model("image", modalities=("image",))
class Image(StockModel):
    """A stock image classifier with a head of its own, as a baseline without words.

    Methods that read attention do not apply to a ResNet, which has none.

    Parameters
    ----------
    vocabulary_size, max_length, features : not used
    width, heads : of a network that starts from scratch: a ViT of 4 layers without dropout, or a
        ResNet of 3 stages, the last one of twice the width
    image_size : of a network that starts from scratch; else that of its image processor
    weights : folder of save_pretrained, of any class of its architecture; None to start from
        scratch. A head of two classes is read, any other size stays fresh
    outputs : 1 for the logit of label 1, else the number of answers, whose head is always fresh
    architecture : vit or resnet; by default that of the weights, without them vit
    sizes : {key of its config: value}, over those of the weights or of the width
    """

    def __init__(
        self,
        vocabulary_size,
        max_length,
        features=None,
        width=128,
        heads=4,
        image_size=None,
        *,
        weights=None,
        outputs=1,
        architecture=None,
        sizes=None,
    ):
        super().__init__()
        self.kind, config = kind_and_config(weights, architecture, sizes, width, heads, image_size)
        config.num_labels = CLASSES if outputs == 1 else outputs
        side = image_size if weights is None else read_processor(folder_of(weights))[0].height
        self.grid, self.outputs = self.kind.grid(config, side), outputs
        self.readouts = self.kind.readouts
        self.cells = Cells()
        if weights is None:
            self.network = self.kind.architecture(config)
        else:
            fresh = HEADS if outputs > 1 else ()
            self.network, self.report = load_network(
                self.kind.architecture, folder_of(weights), config, HEADS, fresh
            )

    @classmethod
    def input_spec(cls, settings, tokenizer, max_length=None):
        weights = settings.get("weights")
        if weights is None:
            return super().input_spec(settings, tokenizer, max_length)
        folder = folder_of(weights)
        spec = checkpoint_inputs(folder, tokenizer, max_length, cls.modalities, pixels=True)
        wanted = (settings.get("architecture"), settings.get("sizes"))
        _, config = kind_and_config(weights, *wanted)
        if hasattr(config, "image_size"):
            check_geometry(weights, spec.geometry, config.image_size)
        return spec

    def use_attention(self, implementation):
        if self.kind.edges(self):
            super().use_attention(implementation)

    def embed_image(self, batch):
        """Tokens of the patches, after a class token, or of the cells of the last feature map."""
        values = self.kind.embed(self, batch.image)[batch.image_rows]
        return image_tokens(values, self.kind.special)

    def encode(self, tokens):
        return self.kind.encode(self, tokens["image"])

    def classify(self, hidden):
        scores = self.kind.scores(self, hidden)
        return difference(scores) if self.outputs == 1 else scores

    def edges(self):
        return self.kind.edges(self)

    def grad_cam_layers(self):
        return {"image": self.kind.grad_cam_layer(self)}


def kind_and_config(weights, architecture, sizes, width=128, heads=4, image_size=None):
    """Entry of KINDS and config of a network: of its weights, or of a run's sizes."""
    kind = KINDS[known_type("image", weights, architecture, list(KINDS))]
    run = kind.sizes(width, heads, image_size) if weights is None else {}
    return kind, stock_config(kind.architecture.config_class, weights, {}, run, sizes)
