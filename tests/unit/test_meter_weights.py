"""The files that METER's weights come in, and the inputs that go with them."""

import sys
from collections import OrderedDict
from types import ModuleType

import pytest
import torch
from meter_batches import logits_of, make_batch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torchvision import transforms
from transformers import PreTrainedTokenizerFast

from mmlens.datasets.answers import published_vocabulary
from mmlens.datasets.vocabulary import train_tokenizer
from mmlens.features.normalise import normalised as scaled
from mmlens.models import MODELS
from mmlens.models.answers import arrange_answers
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
POSITIONS = "vit_model.visual.positional_embedding"


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
