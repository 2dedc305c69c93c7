"""ViLBERT on the cached features of regions: a text stream and a region stream (Lu et al. 2019)."""

import torch

from . import register_model
from .base import Edge, Layout, Parallel, Span, Tokens
from .folders import settings_beside
from .regions import RegionModel, check_fits, run_needs, some_region
from .vilbert_config import VilbertConfig
from .vilbert_network import TaskHead, VilbertNetwork, with_global_region
from .vilbert_weights import load_vilbert

PLACE = 5  # numbers that say where a region lies
TASK_TOKENS = 20  # of the multi-task model


@register_model("vilbert", modalities=("text", "image"), frozen=True)
class Vilbert(RegionModel):
    """The published network behind the contract, with MMF's classifier of two classes.

    For answers it has the head of the multi-task model in place of the classifier.

    The image tokens are the regions themselves, features and places, so that the global region
    knows nothing of a region that is removed: it is computed of those that are left.

    Parameters
    ----------
    vocabulary_size, max_length : number of words and of text tokens
    features : FeatureReader
    width, heads : of all layers of the small preset; not used by the published one
    image_size : not used
    weights : a published file, or a folder of one; None to start from scratch. A config.json
        beside it gives the sizes
    outputs : 1 for the logit of label 1, else the number of answers
    preset : "small" (4 text layers, 2 region layers, 2 exchanges, no dropout) or "published"; by
        default published with weights, else small
    sizes : {key of VilbertConfig: value}, over those of the preset or of the config file, whose
        keys are known too
    global_region : whether a global region comes first and is what the pooler reads, as in
        Facebook's files; without it, as in MMF's, that is the first, most confident region, and
        an image without regions shows one of zeros
    task : number of the task token to put into the text, for the multi-task model; or None
    answers : file of the answers that the outputs of vil_prediction in `weights` stand for, in
        order; without it that head is not read, since its order is not published with it
    tokenizer : folder of the tokenizer, if it does not lie beside the weights
    """

    readouts = (("text", 0), ("image", 0))

    def __init__(
        self,
        vocabulary_size,
        max_length,
        features,
        width=128,
        heads=4,
        image_size=None,
        *,
        weights=None,
        outputs=1,
        preset=None,
        sizes=None,
        global_region=True,
        task=None,
        answers=None,
        tokenizer=None,
    ):
        super().__init__()
        preset = preset or ("small" if weights is None else "published")
        own = preset_sizes(preset, max_length, width, heads)
        if weights is None:
            own |= {"vocab_size": vocabulary_size, "v_feature_size": features.width}
        else:
            own |= settings_beside(weights)
        if task is not None:
            own["task_count"] = TASK_TOKENS
        config = VilbertConfig.from_dict({**own, **(sizes or {})})
        check(config, task)
        exact = {"v_feature_size": (features.width, "the width of the run's features")}
        check_fits(self.name, config, run_needs(vocabulary_size, max_length), exact)
        self.grid, self.outputs = features.grid, outputs
        self.global_region, self.task = global_region, task
        binary = outputs == 1
        self.network = VilbertNetwork(config, ("words", "classifier") if binary else ("words",))
        if not binary:
            fused, eps = config.bi_hidden_size, config.layer_norm_eps
            self.network.vil_prediction = TaskHead(fused, 2 * fused, outputs, eps)
            self.network.vil_prediction.apply(self.network.initialise)
        if weights is not None:
            head = "classifier." if binary else "vil_prediction."
            self.read(load_vilbert, weights, head, answers)

    def published_answers(self):
        if self.outputs == 1:
            return None, None
        return self.network.vil_prediction.logit_fc[-1], self.answers

    def embed_text(self, batch):
        """Tokens of the words; the task's token comes after the first one."""
        valid, content, tasks = batch.text_valid, batch.text_content, None
        if self.task is not None:
            tasks = torch.full_like(batch.input_ids[:, 0], self.task)
            valid, content = insert(valid, True), insert(content, False)
        values = self.network.bert.embeddings(batch.input_ids, task_ids=tasks)
        return Tokens(values, valid, content)

    def embed_image(self, batch):
        """Tokens of the regions: features, then x1, y1, x2, y2 and area, as shares of the image."""
        sides = batch.boxes[..., 2:] - batch.boxes[..., :2]
        area = sides.prod(-1, keepdim=True)
        regions = torch.cat([batch.image, batch.boxes, area], -1)[batch.image_rows]
        valid = batch.image_valid[batch.image_rows]
        return Tokens(regions, valid, valid)

    def regions(self, image):
        """Features, places and valid of all columns of the region stream."""
        values, valid = image.values, image.valid
        if not self.global_region:
            values, valid = some_region(values, valid)
        features, places = values[..., :-PLACE], values[..., -PLACE:]
        if self.global_region:
            return with_global_region(features, places, valid)
        return features, places, valid

    def alone(self, modality, tokens):
        """Of the text; the regions exchange from their first layer on, as published."""
        if modality == "image":
            return None
        return self.network.bert.encoder.alone("text", tokens.values, tokens.valid)

    def encode(self, tokens):
        text, trunk = self.prepare("text", tokens["text"]), self.network.bert
        features, places, valid = self.regions(tokens["image"])
        regions = trunk.encoder.alone("regions", trunk.v_embeddings(features, places), valid)
        hidden, seen = trunk.encoder.join(text.values, text.valid, regions, valid)
        return {"text": hidden, "image": seen}

    def classify(self, hidden):
        fused = self.network.fuse(hidden["text"], hidden["image"])
        if self.outputs > 1:
            return self.network.vil_prediction(fused)
        scores = self.network.classifier(fused)
        return scores[:, 1] - scores[:, 0]

    def word_logits(self, hidden, tokens):
        """Scores of every word at every text position, (B, T, vocabulary), for masked words."""
        text = hidden["text"]
        if self.task is not None:
            text = torch.cat([text[:, :1], text[:, 2:]], 1)
        return self.network.cls["predictions"](text)

    def layout(self, tokens):
        text, image = tokens["text"], tokens["image"]
        start, regions = int(self.global_region), image.values.shape[1]
        return Layout(
            spans={
                "text": Span("text", 0, text.values.shape[1]),
                "image": Span("image", start, start + regions),
            },
            content={"text": text.content, "image": image.content},
            valid={"text": text.valid, "image": self.regions(image)[2]},
            readouts=self.readouts,
            grid=self.grid,
        )

    def edges(self):
        streams = {"text": "text", "regions": "image"}
        edges = []
        for kind, layer in self.network.bert.encoder.steps():
            if kind == "exchange":
                attention = layer.biattention
                reads_image = Edge(attention.text_reads.probabilities, "text", "image")
                reads_text = Edge(attention.regions_read.probabilities, "image", "text")
                edges.append(Parallel((reads_image, reads_text)))
            else:
                edges.append(Edge(layer.probabilities, streams[kind], streams[kind]))
        return edges

    def grad_cam_layers(self):
        """What the last self-attention of each stream reads.

        After it only the first token reaches the classifier, and all others have no gradient.
        """
        last = self.network.bert.encoder.c_layer[-1]
        return {"text": last.t_output.LayerNorm, "image": last.v_output.LayerNorm}


def preset_sizes(preset, max_length, width, heads):
    """{key of VilbertConfig: value} of a preset; ValueError if there is none of that name."""
    if preset == "published":
        return {}
    if preset != "small":
        raise ValueError(f"preset: found {preset!r}, expected small or published")
    return {
        "max_position_embeddings": max_length,
        "hidden_size": width,
        "num_hidden_layers": 4,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "v_hidden_size": width,
        "v_num_hidden_layers": 2,
        "v_num_attention_heads": heads,
        "v_intermediate_size": width,
        "bi_hidden_size": width,
        "bi_num_attention_heads": heads,
        "v_biattention_id": (0, 1),
        "t_biattention_id": (2, 3),
        # With the published 0.1, 4 epochs of generated data taught it nothing.
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": width**-0.5,
    }


def check(config, task):
    """ValueError if task or classes do not fit the sizes."""
    problems = []
    if task is not None and not 0 <= task < config.task_count:
        problems.append(f"task: found {task}, expected 0 to {config.task_count - 1}")
    if config.num_labels != 2:
        problems.append(f"num_labels: found {config.num_labels}, expected 2")
    if problems:
        raise ValueError("vilbert: " + "; ".join(problems))


def insert(mask, value):
    """A bool (B, T) mask with a column `value` after its first: (B, T + 1)."""
    return torch.cat([mask[:, :1], torch.full_like(mask[:, :1], value), mask[:, 1:]], 1)
