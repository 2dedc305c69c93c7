"""METER behind the contract: order, sizes, inputs, and the files its weights come in."""

import sys
from collections import OrderedDict
from types import ModuleType

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torchvision import transforms
from transformers import PreTrainedTokenizerFast

from mmlens.datasets.answers import published_vocabulary
from mmlens.datasets.vocabulary import train_tokenizer
from mmlens.explanation import METHODS
from mmlens.explanation.capture import capture
from mmlens.explanation.relevance import normalised
from mmlens.features.normalise import normalised as scaled
from mmlens.models import MODELS
from mmlens.models.answers import arrange_answers
from mmlens.models.base import Edge, Parallel
from mmlens.models.inputs import Batch
from mmlens.models.layers import Stem
from mmlens.models.meter_config import MeterConfig
from mmlens.models.meter_network import HEADS, MeterNetwork
from mmlens.models.meter_weights import PUBLISHED_HEADS, load_meter, resized_positions
from mmlens.table import DataError

torch.set_num_threads(1)

SIZES = {"vocab_size": 30, "hidden_size": 12, "num_top_layer": 2, "num_heads": 3}
SIZES |= {"image_size": 24, "patch_size": 8, "text_hidden_size": 8, "text_num_hidden_layers": 2}
SIZES |= {"text_num_attention_heads": 2, "text_intermediate_size": 20, "vision_width": 16}
SIZES |= {"text_max_position_embeddings": 14, "vision_layers": 3, "vision_heads": 2}
CONFIG = MeterConfig(**SIZES)
RUN = {"vocabulary_size": 30, "max_length": 12}
POSITIONS = "vit_model.visual.positional_embedding"


def new_model(**options):
    """A model in double precision with weights that all matter."""
    torch.manual_seed(0)
    model = MODELS.get("meter")(**{**RUN, "width": 8, "heads": 2, "image_size": 48, **options})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.double().eval()


def make_batch(side=48, dtype=torch.float64):
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


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("image_tokens", ["patches", "encoded"])
def test_edges_are_in_the_order_of_the_forward_pass(image_tokens):
    model = new_model(image_tokens=image_tokens)
    text, image = ("text", "text"), ("image", "image")
    pair = [text, ("text", "image"), image, ("image", "text")]
    towers = ([image] * 2 if image_tokens == "patches" else []) + [text] * 2
    found = [
        (step.query, step.key) if isinstance(step, Edge) else [(e.query, e.key) for e in step.edges]
        for step in model.edges()
    ]
    assert found == [*towers, pair, pair]
    assert all(isinstance(step, Parallel) for step in model.edges()[-2:])


def expected_relevance(seen, before):
    """The relevance of METER written out.

    before : whether the crosses read the other stream as it was before its self-attention
    """
    sizes = {s: valid.shape[1] for s, valid in seen.layout.valid.items()}
    r = {(a, b): torch.zeros(3, sizes[a], sizes[b]).double() for a in sizes for b in sizes}
    for stream in sizes:
        r[stream, stream] += torch.eye(sizes[stream])

    def self_attention(r, m):
        return r | {(m.query, k): r[m.query, k] + m.relevance @ r[m.query, k] for k in sizes}

    def cross(r, m, other):
        s, q = m.query, m.key
        crossed = normalised(r[s, s]).mT @ m.relevance @ normalised(other[q, q])
        return {(s, q): r[s, q] + crossed, (s, s): r[s, s] + m.relevance @ other[q, s]}

    for step in seen.steps:
        if len(step) == 1:
            r = self_attention(r, step[0])
            continue
        text, by_text, image, by_image = step
        old, r = r, self_attention(self_attention(r, text), image)
        other = old if before else r
        r = r | cross(r, by_text, other) | cross(r, by_image, other)
    return {m: r["text", m][:, 0] + r["image", m][:, 0] for m in sizes}


def test_relevance_reads_the_other_stream_as_the_network_does():
    target = torch.tensor([True, False, True])
    seen = capture(new_model(), make_batch(), list("abc"), target)
    found = METHODS.get("relevance")(seen)
    right, wrong = (expected_relevance(seen, before) for before in (True, False))
    for modality, values in found.items():
        close(values, right[modality])
        assert not torch.allclose(values, wrong[modality])


@pytest.mark.parametrize("method", ["raw_attention", "rollout", "relevance", "saliency"])
@pytest.mark.parametrize("outputs", [1, 4])
def test_maps_are_finite_and_tell_tokens_apart(method, outputs):
    target = torch.tensor([True, False, True]) if outputs == 1 else torch.tensor([3, 0, 1])
    model = new_model(outputs=outputs)
    seen = capture(model, make_batch(), list("abc"), target)
    for modality, values in METHODS.get(method)(seen).items():
        content = seen.layout.content[modality]
        assert torch.isfinite(values).all()
        assert all(values[k][content[k]].unique().numel() > 1 for k in range(3))


def test_encoded_tokens_are_those_of_the_image_tower():
    patches, encoded = new_model(), new_model(image_tokens="encoded")
    batch = make_batch()
    close(logits_of(encoded, batch), logits_of(patches, batch))
    kept = torch.tensor([0, 2, 3]).expand(3, -1)
    states = []
    for model in (patches, encoded):
        tokens = model.embed(batch)
        with torch.no_grad():
            states.append(model({**tokens, "image": tokens["image"].gather(kept)}))
    assert not torch.allclose(*states)  # what is left still knows of the removed patches


def test_logits_are_the_difference_of_two_scores_or_all_of_them():
    batch = make_batch()
    model = new_model()
    hidden = model.encode(model.embed(batch))
    scores = model.network.classifier(model.network.fuse(hidden["text"], hidden["image"]))
    close(logits_of(model, batch).sigmoid(), scores.softmax(-1)[:, 1].detach())
    assert logits_of(new_model(outputs=5), batch).shape == (3, 5)


def test_words_that_padding_hides_do_not_count_and_positions_do():
    model, batch = new_model(), make_batch()
    before = logits_of(model, batch)
    batch.input_ids[0, 4:] = 9
    close(logits_of(model, batch), before)
    batch.input_ids[1, [2, 3]] = batch.input_ids[1, [3, 2]]
    assert not torch.allclose(logits_of(model, batch)[1], before[1])


def test_the_small_preset_starts_from_the_stem_and_the_published_one_from_the_convolution():
    model = new_model()
    assert isinstance(model.image_stem, Stem)
    assert model.masked_words
    assert model.network.visual.conv1 is None
    names = list(model.state_dict())
    with torch.device("meta"):
        model = MODELS.get("meter")(50265, 50, preset="published")
    assert model.network.config == MeterConfig()
    assert model.image_stem is None
    assert model.grid == (18, 18)
    assert "network.vit_model.visual.stem.0.weight" in names
    assert "network.vit_model.visual.conv1.weight" in model.state_dict()


def test_layers_can_be_computed_again():
    model, batch = new_model().train(), make_batch()
    gradients = []
    for _ in range(2):
        model.zero_grad()
        model(model.embed(batch)).sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        model.checkpoint_gradients()
    for first, second in zip(*gradients, strict=True):
        close(second, first)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"preset": "large"}, "preset: found 'large', expected small or published"),
        ({"image_tokens": "all"}, "image_tokens: found 'all', expected patches or encoded"),
        ({"sizes": {"hiden_size": 3}}, "meter: unknown key 'hiden_size': did you mean hidden_size"),
        ({"sizes": {"hidden_size": "8"}}, "hidden_size: found '8', expected a value such as 768"),
        ({"sizes": {"hidden_size": 9}}, r"hidden_size: found 9, expected a multiple of num_heads"),
        ({"sizes": {"num_top_layer": 0}}, "num_top_layer: found 0, expected at least 1"),
        ({"sizes": {"vision_layers": 1}}, "vision_layers: found 1, expected at least 2"),
        ({"sizes": {"patch_embedding": "fft"}}, "found 'fft', expected conv, stem"),
        ({"sizes": {"patch_size": 8}}, "patch_size: found 8, expected 16 for the stem"),
        ({"image_size": 50}, "image_size: found 50, expected a multiple of patch_size"),
        ({"sizes": {"vocab_size": 20}}, "vocab_size: found 20, expected at least 30"),
        (
            {"sizes": {"text_max_position_embeddings": 13}},
            "text_max_position_embeddings: found 13, expected at least 14, for texts of 12",
        ),
    ],
)
def test_a_model_that_does_not_fit_the_run_is_refused(options, expected):
    with pytest.raises(ValueError, match=expected):
        new_model(**options)


def test_one_cross_modal_pair_has_layers_for_grad_cam():
    model = new_model(sizes={"num_top_layer": 1})
    seen = capture(model, make_batch(), list("abc"), torch.tensor([True, False, True]))
    assert all(torch.isfinite(values).all() for values in METHODS.get("grad_cam")(seen).values())
    assert all(gradient.abs().sum() > 0 for _, gradient in seen.features.values())


# --- weights ---------------------------------------------------------------------------------


@pytest.fixture
def state():
    """Weights of all heads as published, and what METER carries along and never reads."""
    torch.manual_seed(3)
    network = MeterNetwork(CONFIG, HEADS[:3], answers=4)
    state = {name: torch.randn_like(value) for name, value in network.state_dict().items()}
    state["text_transformer.embeddings.position_ids"] = torch.arange(14)[None]
    state["text_transformer.pooler.dense.weight"] = torch.zeros(8, 8)
    state["vit_model.token_embedding.weight"] = torch.zeros(50, 6)
    return state


UNREAD = {
    "text_transformer.embeddings.position_ids",
    "text_transformer.pooler.dense.weight",
    "vit_model.token_embedding.weight",
}


def lightning(state):
    """A checkpoint of Lightning 1.3, whose callbacks are classes of its own."""
    callback = sys.modules["pytorch_lightning.callbacks"].ModelCheckpoint
    return {
        "epoch": 9,
        "pytorch-lightning_version": "1.3.2",
        "state_dict": OrderedDict(state),
        "callbacks": {callback: {"best_model_score": torch.tensor(0.77)}},
        "hyper_parameters": {"config": {"vit": "ViT-B/16", "loss_names": {"vqa": 1}}},
    }


@pytest.fixture
def framework(monkeypatch):
    """A stand-in for the package whose classes the published checkpoints name."""
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    options = {"__module__": "pytorch_lightning.callbacks"}
    sys.modules["pytorch_lightning.callbacks"].ModelCheckpoint = type(
        "ModelCheckpoint", (), options
    )
    return monkeypatch


LAYOUTS = {
    "lightning": lightning,
    "tensors": lambda state: state,
    "several GPUs": lambda state: {"state_dict": {f"module.{n}": v for n, v in state.items()}},
    "wrapped": lambda state: {"model": {f"model.{n}": v for n, v in state.items()}},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_weights(tmp_path, state, framework, layout):
    torch.save(LAYOUTS[layout](state), tmp_path / "weights.ckpt")
    framework.undo()  # the package is not installed where the file is read
    network = MeterNetwork(CONFIG, HEADS[:3], answers=4)
    report = load_meter(network, tmp_path / "weights.ckpt")
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert {name.removeprefix("model.") for name in report.unexpected} == UNREAD
    assert (report.missing, report.adapted) == ((), ())
    assert len(report.matched) + len(report.renamed) == len(network.state_dict())
    assert bool(report.renamed) == (layout == "wrapped")


def save(folder, state, tokenizer=True):
    """A folder with weights and RoBERTa's kind of tokenizer."""
    folder.mkdir(exist_ok=True)
    save_file(state, folder / "model.safetensors")
    if tokenizer:
        words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *(f"word{k}" for k in range(25))]
        own = Tokenizer(models.WordLevel({w: k for k, w in enumerate(words)}, unk_token="<unk>"))
        own.pre_tokenizer = pre_tokenizers.Whitespace()
        own.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
        special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
        special |= {"unk_token": "<unk>", "mask_token": "<mask>", "model_max_length": 12}
        PreTrainedTokenizerFast(tokenizer_object=own, **special).save_pretrained(folder)
    return folder


def from_weights(folder, outputs=1, **options):
    sizes = {**SIZES, **options.pop("sizes", {})}
    entry = MODELS.get("meter")
    return entry(30, 12, weights=str(folder), outputs=outputs, sizes=sizes, **options)


def heads_of(report):
    return {name.split(".")[0] for name in report.missing}


def test_a_model_takes_published_weights(tmp_path, state):
    folder = save(tmp_path, state)
    model = from_weights(folder)
    assert heads_of(model.report) == {"classifier"}
    assert not model.masked_words
    found = model.network.state_dict()
    trunk = {n: v for n, v in state.items() if not n.startswith(PUBLISHED_HEADS)}
    assert all(torch.equal(found[name], trunk[name]) for name in trunk.keys() - UNREAD)
    assert {name.split(".")[0] for name in set(model.report.unexpected) - UNREAD} == {
        "mlm_score",
        "itm_score",
        "vqa_classifier",
    }
    assert torch.isfinite(logits_of(model.eval(), make_batch(24, torch.float32))).all()


def test_the_position_table_is_resized_to_the_images_of_the_run(tmp_path, state):
    model = from_weights(save(tmp_path, state), sizes={"image_size": 40})
    assert model.report.adapted == (POSITIONS,)
    expected = resized_positions(state[POSITIONS], (5, 5))
    assert torch.equal(model.network.visual.positional_embedding, expected)
    assert torch.equal(expected[0], state[POSITIONS][0])
    assert model.grid == (5, 5)
    constant = resized_positions(torch.ones(10, 2), (5, 5))
    torch.testing.assert_close(constant, torch.ones(26, 2))


@pytest.mark.parametrize("rows", [8, 1])
def test_a_table_of_no_square_grid_is_named(tmp_path, state, rows):
    state[POSITIONS] = torch.zeros(rows, 16)
    with pytest.raises(DataError, match=rf"{POSITIONS} has shape \({rows}, 16\); expected \(10,"):
        from_weights(save(tmp_path, state))


def test_a_head_of_answers_is_read_only_if_it_is_known_what_they_are(tmp_path, state):
    folder = save(tmp_path, state)
    assert heads_of(from_weights(folder, outputs=4).report) == {"vqa_classifier"}
    (tmp_path / "answers.json").write_text('["no", "yes", "two", "red"]')
    model = from_weights(folder, outputs=4, answers=str(tmp_path / "answers.json"))
    assert model.report.missing == ()
    arrange_answers(model, ["yes", "red", "no", "two"])
    expected = state["vqa_classifier.3.bias"][[1, 3, 0, 2]]
    assert torch.equal(model.network.vqa_classifier[-1].bias, expected)
    with pytest.raises(
        DataError, match=r"vqa_classifier.3.weight has shape \(4, 24\); expected \(5,"
    ):
        from_weights(folder, outputs=5, answers=str(tmp_path / "answers.json"))


def test_the_head_of_all_published_answers_is_brought_into_the_order_of_the_run(tmp_path, state):
    state["vqa_classifier.3.weight"] = torch.randn(3129, 24)
    state["vqa_classifier.3.bias"] = torch.arange(3129.0)
    model = from_weights(save(tmp_path, state), outputs=3129)
    assert model.report.missing == ()
    vilt, lxmert = published_vocabulary("vilt"), published_vocabulary("lxmert")
    arrange_answers(model, lxmert)
    found = model.network.vqa_classifier[-1].bias.tolist()
    assert [vilt[int(index)] for index in found] == lxmert
    assert found[lxmert.index("")] == 125  # which one published dictionary lacks
    assert found[lxmert.index("yes")] == 3


def test_all_faults_of_a_file_are_named_at_once(tmp_path, state):
    del state["cross_modal_text_pooler.dense.bias"]
    del state["vit_model.visual.transformer.resblocks.1.attn.in_proj_weight"]
    del state["itm_score.fc.bias"]  # a head of which the rest is there
    state["token_type_embeddings.weight"] = torch.zeros(3, 12)
    state["vit_model.visual.transformer.resblocks.2.ln_1.bias"] = torch.zeros(16)
    state["vit_model.visual.proj"] = torch.zeros(16, 4)
    save(tmp_path, state)
    network = MeterNetwork(CONFIG, HEADS[:3], answers=4)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(DataError) as caught:
        load_meter(network, tmp_path / "model.safetensors")
    absent = "the network has no such tensor"
    assert sorted(problem.split(": ", 1)[1] for problem in caught.value.problems) == [
        "no cross_modal_text_pooler.dense.bias; expected (12,)",
        "no itm_score.fc.bias; expected (2,)",
        "no vit_model.visual.transformer.resblocks.1.attn.in_proj_weight; expected (48, 16)",
        "token_type_embeddings.weight has shape (3, 12); expected (2, 12)",
        f"unexpected vit_model.visual.proj (16, 4); {absent}",
        f"unexpected vit_model.visual.transformer.resblocks.2.ln_1.bias (16,); {absent}",
    ]
    for name, value in network.state_dict().items():  # nothing was taken
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("part", ["text_transformer.", "cross_modal_image_layers.", "vit_model."])
def test_a_file_without_a_part_of_the_trunk_is_refused(tmp_path, state, part):
    left = {name: value for name, value in state.items() if not name.startswith(part)}
    with pytest.raises(DataError, match=f"no {part}"):
        from_weights(save(tmp_path, left))


# --- inputs ----------------------------------------------------------------------------------


def test_inputs_of_published_weights_are_those_of_the_published_code(tmp_path, state):
    """Against torchvision, in whose transforms METER writes its preprocessing."""
    folder = save(tmp_path / "weights", state)
    settings = {"weights": str(folder), "sizes": SIZES, "image_size": 96, "width": 8, "heads": 2}
    spec = MODELS.get("meter").input_spec(settings, "unused")
    assert spec.max_length == 12  # the tokenizer's, which is less than 50
    assert (spec.pad_id, spec.mask_id) == (1, 4)
    assert spec.tokenizer.encode("word0 word7").ids == [0, 5, 12, 2]
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    published = transforms.Compose(
        [
            transforms.Resize(24, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(24),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    for size in ((70, 41), (41, 70), (33, 33), (25, 24)):
        image = Image.effect_noise(size, 80).convert("RGB")
        pixels = torch.from_numpy(spec.geometry.apply(image).copy())[None]
        found = scaled(pixels, spec.mean, spec.std)[0]
        torch.testing.assert_close(found, published(image), rtol=0, atol=1e-6)


def test_inputs_follow_the_preset_and_the_arguments(tmp_path, state):
    entry, run = MODELS.get("meter"), {"width": 8, "heads": 2, "image_size": 48}
    train_tokenizer(["a b c"], ["a b c"]).save(str(tmp_path / "tokenizer.json"))
    spec = entry.input_spec(run, tmp_path / "tokenizer.json")
    assert (spec.geometry.height, spec.geometry.shortest_edge, spec.max_length) == (48, None, 5)
    folder = save(tmp_path / "words", state)
    file = save(tmp_path / "alone", state, tokenizer=False) / "model.safetensors"
    settings = {**run, "weights": str(file), "tokenizer": str(folder)}
    spec = entry.input_spec(settings, "unused")
    assert (spec.geometry.height, spec.geometry.shortest_edge) == (288, 288)
    spec = entry.input_spec({**settings, "sizes": {"image_size": 576}}, "unused", 9)
    assert (spec.geometry.width, spec.geometry.shortest_edge, spec.max_length) == (576, 576, 9)
    with pytest.raises(DataError, match=r"meter: .*alone holds no tokenizer.*that of roberta-base"):
        entry.input_spec({**run, "weights": str(file)}, "unused")
