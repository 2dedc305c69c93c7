"""The files that ViLBERT's weights come in, and the sizes and words beside them."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from region_batches import FEATURES, logits_of
from safetensors.torch import save_file
from transformers import BertTokenizerFast
from vilbert_batches import make_batch

from mmlens.models import MODELS
from mmlens.models.answers import arrange_answers
from mmlens.models.vilbert_config import VilbertConfig
from mmlens.models.vilbert_network import HEADS, PRETRAINING, VilbertNetwork
from mmlens.models.vilbert_weights import load_vilbert
from mmlens.table import DataError

torch.set_num_threads(1)

SMALL = {"vocab_size": 30, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL |= {"intermediate_size": 20, "max_position_embeddings": 10, "v_feature_size": 6}
SMALL |= {"v_target_size": 5, "v_hidden_size": 8, "v_num_hidden_layers": 1, "bi_hidden_size": 16}
SMALL |= {"v_num_attention_heads": 2, "v_intermediate_size": 10, "bi_num_attention_heads": 4}
SMALL |= {"v_biattention_id": (0,), "t_biattention_id": (1,)}
CONFIG = VilbertConfig(**SMALL)


@pytest.fixture
def state():
    """Weights in the layout of the Conceptual Captions file."""
    torch.manual_seed(3)
    network = VilbertNetwork(CONFIG, PRETRAINING)
    return {name: torch.randn_like(value) for name, value in network.state_dict().items()} | {
        "cls.predictions.decoder.weight": network.bert.embeddings.word_embeddings.weight.detach(),
        "bert.embeddings.word_embeddings.weight": (
            network.bert.embeddings.word_embeddings.weight.detach()
        ),
    }


def older(name):
    """LayerNorm's names before 2019."""
    if "LayerNorm" in name:
        name = name.replace(".weight", ".gamma").replace(".bias", ".beta")
    return name


LAYOUTS = {
    "facebook": lambda state: state,
    "several GPUs": lambda state: {
        "model_state_dict": {f"module.{n}": v for n, v in state.items()}
    },
    "mmf": lambda state: {"model": {f"model.{n}": v for n, v in state.items()}},
    "older mmf": lambda state: {"model": {f"bert.{n}": v for n, v in state.items()}},
    "older bert": lambda state: {older(n): v for n, v in state.items()},
    "community": lambda state: {f"vilbert.{n}": v for n, v in state.items()},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_weights(tmp_path, state, layout):
    torch.save({**LAYOUTS[layout](state)}, tmp_path / "weights.bin")
    network = VilbertNetwork(CONFIG, PRETRAINING)
    report = load_vilbert(network, tmp_path / "weights.bin")
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert len(report.matched) + len(report.renamed) == len(state)
    assert (report.missing, report.unexpected) == ((), ())
    if layout in ("facebook", "several GPUs"):  # state_of has removed "module."
        assert not report.renamed
    elif layout == "mmf":
        assert not report.matched
        assert report.renamed["model.bert.t_pooler.dense.bias"] == "bert.t_pooler.dense.bias"


def test_report_names_what_was_not_read_and_what_stays_fresh(tmp_path, state):
    position_ids = torch.arange(10)[None]
    save_file(
        {**{n: v.clone() for n, v in state.items()}, "bert.embeddings.position_ids": position_ids},
        tmp_path / "weights.safetensors",
    )
    network = VilbertNetwork(CONFIG, ("words", "classifier"))
    fresh = network.classifier[1].weight.clone()
    report = load_vilbert(network, tmp_path / "weights.safetensors")
    assert torch.equal(network.classifier[1].weight, fresh)
    own = {name for name in state if name.startswith(("cls.imagePred", "cls.bi_seq"))}
    assert set(report.unexpected) == own | {"bert.embeddings.position_ids"}
    assert set(report.missing) == {n for n in network.state_dict() if n.startswith("classifier.")}
    assert "not read: bert.embeddings.position_ids" in str(report)
    assert "missing: classifier.1.bias" in str(report)


def test_a_tied_tensor_may_be_there_once(tmp_path, state):
    del state["cls.predictions.decoder.weight"]
    torch.save(state, tmp_path / "weights.bin")
    network = VilbertNetwork(CONFIG, PRETRAINING)
    assert load_vilbert(network, tmp_path / "weights.bin").missing == ()
    words = network.bert.embeddings.word_embeddings.weight
    assert network.cls["predictions"].decoder.weight is words
    assert torch.equal(words, state["bert.embeddings.word_embeddings.weight"])


def test_all_faults_of_a_file_are_named_at_once(tmp_path, state):
    del state["bert.v_pooler.dense.bias"], state["bert.encoder.layer.1.output.dense.weight"]
    del state["cls.imagePredictions.decoder.bias"]  # a head of which the rest is there
    state["bert.t_pooler.dense.bias"] = torch.zeros(3)
    state["cls.bi_seq_relationship.weight"] = torch.zeros(3, 16)
    state["bert.encoder.layer.2.output.dense.bias"] = torch.zeros(12)
    state["bert.embeddings.task_embeddings.weight"] = torch.zeros(20, 12)
    state["answers.weight"] = torch.zeros(2, 2)
    state["model.bert.embeddings.LayerNorm.weight"] = torch.zeros(12)
    state["cls.predictions.decoder.weight"] = torch.zeros(30, 12)
    torch.save(state, tmp_path / "weights.bin")
    network = VilbertNetwork(CONFIG, PRETRAINING)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(DataError) as caught:
        load_vilbert(network, tmp_path / "weights.bin")
    absent = "the network has no such tensor"
    assert sorted(problem.split(": ", 1)[1] for problem in caught.value.problems) == [
        "bert.embeddings.LayerNorm.weight and model.bert.embeddings.LayerNorm.weight are both "
        "bert.embeddings.LayerNorm.weight; expected one",
        "bert.t_pooler.dense.bias has shape (3,); expected (16,)",
        "cls.bi_seq_relationship.weight has shape (3, 16); expected (2, 16)",
        "cls.predictions.decoder.weight differs from bert.embeddings.word_embeddings.weight; "
        "expected the same tensor",
        "no bert.encoder.layer.1.output.dense.weight; expected (12, 20)",
        "no bert.v_pooler.dense.bias; expected (16,)",
        "no cls.imagePredictions.decoder.bias; expected (5,)",
        f"unexpected answers.weight (2, 2); {absent}",
        f"unexpected bert.embeddings.task_embeddings.weight (20, 12); {absent}",
        f"unexpected bert.encoder.layer.2.output.dense.bias (12,); {absent}",
    ]
    for name, value in network.state_dict().items():  # nothing was taken
        assert torch.equal(value, before[name])


def test_multi_task_weights_need_the_task_tokens(tmp_path, state):
    tasks = replace(CONFIG, task_count=20)
    torch.save(VilbertNetwork(tasks, HEADS[:4]).state_dict(), tmp_path / "tasks.bin")
    assert load_vilbert(VilbertNetwork(tasks, HEADS[:4]), tmp_path / "tasks.bin").missing == ()
    with pytest.raises(DataError, match=r"unexpected bert.embeddings.task_embeddings"):
        load_vilbert(VilbertNetwork(CONFIG), tmp_path / "tasks.bin")
    torch.save(state, tmp_path / "captions.bin")
    with pytest.raises(
        DataError, match=r"no bert.embeddings.task_embeddings.weight; expected \(20"
    ):
        load_vilbert(VilbertNetwork(tasks), tmp_path / "captions.bin")


def test_features_of_another_width_get_a_fresh_layer_that_is_reported(tmp_path, state):
    torch.save(state, tmp_path / "weights.bin")
    network = VilbertNetwork(replace(CONFIG, v_feature_size=CONFIG.v_feature_size + 3), ())
    report = load_vilbert(network, tmp_path / "weights.bin")
    projection = {f"bert.v_embeddings.image_embeddings.{name}" for name in ("weight", "bias")}
    assert set(report.missing) == projection <= set(report.unexpected)
    without = {name: tensor for name, tensor in state.items() if name not in projection}
    torch.save(without, tmp_path / "weights.bin")
    with pytest.raises(DataError, match=r"no bert.v_embeddings.image_embeddings.bias"):
        load_vilbert(network, tmp_path / "weights.bin")


def test_a_file_without_the_trunk_is_refused(tmp_path):
    torch.save({"classifier.1.bias": torch.zeros(2)}, tmp_path / "weights.bin")
    network = VilbertNetwork(CONFIG, ())
    with pytest.raises(DataError) as caught:
        load_vilbert(network, tmp_path / "weights.bin")
    assert len(caught.value.problems) == len(network.state_dict())


def model_of(path, **options):
    """A model of the small sizes that starts from a file."""
    arguments = {"vocabulary_size": 30, "max_length": 8, "features": FEATURES, "sizes": SMALL}
    return MODELS.get("vilbert")(**{**arguments, **options}, weights=str(path)).eval()


def single_precision(batch):
    return replace(batch, image=batch.image.float(), boxes=batch.boxes.float())


def test_a_model_starts_from_published_weights(tmp_path, state, capsys):
    torch.save({"model": {f"model.{n}": v for n, v in state.items()}}, tmp_path / "mmf.pth")
    model = model_of(tmp_path / "mmf.pth")
    assert all(name.startswith("classifier.") for name in model.report.missing)
    assert str(model.report) in capsys.readouterr().out
    trunk = {name: value for name, value in state.items() if name.startswith("bert.")}
    for name, value in trunk.items():
        assert torch.equal(model.network.state_dict()[name], value)
    assert torch.isfinite(logits_of(model, single_precision(make_batch()))).all()


def test_sizes_may_lie_beside_the_weights(tmp_path, state):
    torch.save(state, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps({**SMALL, "model_type": "vilbert"}))
    for weights in (tmp_path, tmp_path / "pytorch_model.bin"):
        assert model_of(weights, sizes=None).network.config == CONFIG
    with pytest.raises(ValueError, match="v_feature_size: found 6, expected exactly 7"):
        model_of(tmp_path, sizes=None, features=SimpleNamespace(width=7, grid=None))
    with pytest.raises(ValueError, match="vocab_size: found 30, expected at least 31"):
        model_of(tmp_path, sizes=None, vocabulary_size=31)
    del state["bert.t_pooler.dense.bias"]
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"no bert\.t_pooler\.dense\.bias"):
        model_of(tmp_path, sizes=None)


def test_the_head_of_answers_is_read_where_its_answers_are_named(tmp_path):
    """In the published order of its file, whatever that of the run is."""
    names = [f"answer {k}" for k in range(3129)]
    torch.manual_seed(0)
    tasks = VilbertNetwork(replace(CONFIG, task_count=20), HEADS[:4])
    torch.save(tasks.state_dict(), tmp_path / "tasks.bin")
    (tmp_path / "label2ans.json").write_text(json.dumps(names))
    options = {"outputs": 3129, "task": 1, "global_region": False}
    model = model_of(tmp_path / "tasks.bin", **options, answers=str(tmp_path / "label2ans.json"))
    batch = single_precision(make_batch())
    with torch.no_grad():
        hidden = model.encode(model.embed(batch))
        fused = tasks.eval().fuse(hidden["text"], hidden["image"])
        scores = tasks.vil_prediction(fused)
    torch.testing.assert_close(logits_of(model, batch), scores)
    arrange_answers(model, names[::-1])
    torch.testing.assert_close(logits_of(model, batch), scores.flip(1))
    with pytest.raises(DataError, match="3129 published answers, the run has 3, 1 of them unknown"):
        arrange_answers(model, ["answer 1", "answer 2", "dog"])
    unnamed = model_of(tmp_path / "tasks.bin", **options)
    assert {n for n in unnamed.report.missing if n.startswith("vil_prediction.")} == {
        f"vil_prediction.{name}" for name in tasks.vil_prediction.state_dict()
    }
    assert unnamed.published_answers()[1] is None
    few = model_of(tmp_path / "tasks.bin", **{**options, "outputs": 4})
    assert logits_of(few, batch).shape == (2, 4)


def test_words_come_from_the_tokenizer_beside_the_weights(tmp_path):
    """And never from the run, whose words published weights do not know."""
    entry = MODELS.get("vilbert")
    vocabulary = {w: k for k, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat"])}
    BertTokenizerFast(vocab=vocabulary).save_pretrained(tmp_path / "bert")
    for settings in (
        {"weights": str(tmp_path / "bert" / "weights.pth")},
        {"weights": str(tmp_path / "weights.pth"), "tokenizer": str(tmp_path / "bert")},
        {"tokenizer": str(tmp_path / "bert")},
    ):
        spec = entry.input_spec(settings, "unused", 20)
        assert spec.max_length == 20
        assert spec.tokenizer.encode("a Cat").tokens == ["[CLS]", "[UNK]", "cat", "[SEP]"]
        assert (spec.pad_id, spec.mask_id, spec.geometry) == (0, 4, None)
    with pytest.raises(DataError, match=r"holds no tokenizer \(tokenizer.json\); set arg"):
        entry.input_spec({"weights": str(tmp_path / "weights.pth")}, "unused")
