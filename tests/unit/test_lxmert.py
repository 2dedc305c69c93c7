"""LXMERT: the stock class's own numbers, both directions of its attention, and its files."""

import json
from types import SimpleNamespace

import pytest
import torch
from region_batches import RUN, close, logits_of, make_batch, new_model, save_tokenizer, shaken
from transformers import LxmertConfig, LxmertForPreTraining, LxmertForQuestionAnswering, LxmertModel

from mmlens.datasets.answers import published_vocabulary
from mmlens.explanation.capture import capture
from mmlens.models import MODELS, build_model
from mmlens.models.base import Parallel
from mmlens.models.inputs import own_inputs
from mmlens.models.regions import some_region
from mmlens.table import DataError

torch.set_num_threads(1)

SIZES = {"vocab_size": 30, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16}
SIZES |= {"l_layers": 2, "r_layers": 1, "x_layers": 2, "visual_feat_dim": 6}
SIZES |= {"max_position_embeddings": 16, "initializer_range": 0.3}
ANSWERS = 3129


def stock(entry=LxmertForQuestionAnswering, labels=2, **sizes):
    torch.manual_seed(2)
    return shaken(entry(LxmertConfig(**SIZES, num_qa_labels=labels, **sizes))).eval()


def model_of(weights, **options):
    return MODELS.get("lxmert")(**RUN, weights=str(weights), **options).eval()


def stock_inputs(batch):
    regions, valid = some_region(batch.image, batch.image_valid)
    return {
        "input_ids": batch.input_ids,
        "attention_mask": batch.text_valid.float(),
        "token_type_ids": torch.zeros_like(batch.input_ids),
        "visual_feats": regions,
        "visual_pos": batch.boxes,
        "visual_attention_mask": valid.float(),
    }


@torch.no_grad()
def stock_scores(network, batch):
    return network(**stock_inputs(batch)).question_answering_score


@pytest.mark.parametrize("padding", [(0, 0), (3, 2)])
def test_logits_are_those_of_the_stock_class(tmp_path, padding):
    network, batch = stock(), make_batch(padding=padding, dtype=torch.float32)
    network.save_pretrained(tmp_path)
    model = model_of(tmp_path)
    scores = stock_scores(network, batch)
    close(logits_of(model, batch), scores[:, 1] - scores[:, 0], 1e-5)
    assert all(name.startswith("cls.") for name in model.report.missing)
    assert model.report.unexpected == ()


def test_answers_come_in_the_order_of_the_run(tmp_path):
    """The head of 3,129 is in LXMERT's order; of the run's, every answer keeps its score."""
    network, batch = stock(labels=ANSWERS), make_batch(dtype=torch.float32)
    network.save_pretrained(tmp_path)
    scores = stock_scores(network, batch)
    names = {order: published_vocabulary(order) for order in ("vilt", "lxmert")}
    assert names["vilt"] != names["lxmert"]
    for order, wanted in names.items():
        data = run_of(wanted)
        model = build_model("lxmert", {"weights": str(tmp_path)}, data).eval()
        found = logits_of(model, batch)
        by_name = [dict(zip(wanted, row, strict=True)) for row in found.tolist()]
        for row, expected in zip(by_name, scores.tolist(), strict=True):
            close(
                torch.tensor([row[answer] for answer in names["lxmert"]]),
                torch.tensor(expected),
                1e-5,
            )
        assert torch.allclose(found, scores, atol=1e-5) == (order == "lxmert")
    other = ["no such answer", *names["vilt"][1:]]
    with pytest.raises(DataError, match=r"the run has 3129, 1 of them unknown to it; set dataset"):
        build_model("lxmert", {"weights": str(tmp_path)}, run_of(other))


def run_of(answers):
    """What `build_model` asks of the data of a run."""
    return SimpleNamespace(**RUN, outputs=len(answers), answers=answers)


def test_a_head_is_read_where_it_is_known_what_its_outputs_stand_for(tmp_path):
    stock(labels=4).save_pretrained(tmp_path)
    (tmp_path / "own.json").write_text(json.dumps(["a", "b", "c", "d"]))
    batch = make_batch(dtype=torch.float32)
    scores = stock_scores(stock(labels=4), batch)
    named = model_of(tmp_path, outputs=4, answers=str(tmp_path / "own.json"))
    close(logits_of(named, batch), scores, 1e-5)
    assert named.published_answers()[1] == ["a", "b", "c", "d"]
    for options in ({"outputs": 4}, {"outputs": 1}, {"outputs": 5}, {"outputs": ANSWERS}):
        fresh = model_of(tmp_path, **options)
        assert fresh.published_answers()[1] is None
        assert any(name.startswith("answer_head.") for name in fresh.report.missing)
        assert "answer_head.logit_fc.3.bias" in fresh.report.unexpected
    with pytest.raises(DataError, match=r"logit_fc.3.bias has shape \(4,\); expected \(5,\)"):
        model_of(tmp_path, outputs=5, answers=str(tmp_path / "own.json"))


def official(network, layout):
    """The state of a stock network as the official files name it."""
    state = network.state_dict()
    state = {name.replace("lxmert.", "bert.", 1): value for name, value in state.items()}
    if layout == "pretrained":
        return {f"module.{name}": value for name, value in state.items()}
    behind = "module." if layout == "several GPUs" else ""
    return {
        name.removeprefix("answer_head.")
        if name.startswith("answer_head.")
        else f"lxrt_encoder.model.{behind}{name}": value
        for name, value in state.items()
    }


@pytest.mark.parametrize("layout", ["pretrained", "fine-tuned", "several GPUs"])
def test_official_files_give_the_weights_of_the_stock_class(tmp_path, layout):
    entry = LxmertForPreTraining if layout == "pretrained" else LxmertForQuestionAnswering
    network, path = stock(entry), tmp_path / "weights.pth"
    torch.save(official(network, layout), path)
    model, batch = model_of(path, sizes=SIZES), make_batch(dtype=torch.float32)
    scores = stock_scores(network, batch)
    close(logits_of(model, batch), scores[:, 1] - scores[:, 0], 1e-5)
    own = model.network.state_dict()
    for name, value in network.state_dict().items():
        if not name.startswith("obj_predict_head."):
            assert torch.equal(own[name], value), name
    objects = [name for name in model.report.unexpected if "obj_predict_head." in name]
    assert len(objects) == (10 if layout == "pretrained" else 0)
    assert len(model.report.unexpected) == len(objects)


def test_a_trunk_alone_is_read(tmp_path):
    network = stock(LxmertModel)
    network.save_pretrained(tmp_path)
    model = model_of(tmp_path)
    for name, value in network.state_dict().items():
        assert torch.equal(model.network.lxmert.state_dict()[name], value), name


def test_all_faults_of_a_file_are_named_at_once(tmp_path):
    state = official(stock(), "fine-tuned")
    del state["lxrt_encoder.model.bert.encoder.x_layers.1.visual_attention.att.key.bias"]
    del state["logit_fc.0.bias"]
    state["lxrt_encoder.model.bert.pooler.dense.bias"] = torch.zeros(3)
    state["lxrt_encoder.model.bert.encoder.layer.7.output.dense.bias"] = torch.zeros(8)
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(DataError) as caught:
        model_of(tmp_path / "weights.pth", sizes=SIZES)
    assert sorted(problem.split(": ", 1)[1] for problem in caught.value.problems) == [
        "lxmert.pooler.dense.bias has shape (3,); expected (8,)",
        "no answer_head.logit_fc.0.bias; expected (16,)",
        "no lxmert.encoder.x_layers.1.visual_attention.att.key.bias; expected (8,)",
        "unexpected lxrt_encoder.model.bert.encoder.layer.7.output.dense.bias (8,); the network "
        "has no such tensor",
    ]


def test_weights_of_another_architecture_or_size_are_refused(tmp_path):
    stock().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "visual_bert"}))
    with pytest.raises(DataError, match="model_type: found visual_bert, expected lxmert"):
        model_of(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "visual_feat_dim": 7}))
    with pytest.raises(ValueError, match="visual_feat_dim: found 7, expected exactly 6, the width"):
        model_of(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DataError, match=r"config.json: .*; expected JSON"):
        model_of(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no model.safetensors or .* or pytorch_model.bin"):
        model_of(tmp_path / "empty", sizes=SIZES)


def test_maps_of_both_directions_are_those_of_the_stock_class():
    """It returns that of words reading regions; the other one is written out here."""
    model, batch = new_model("lxmert"), make_batch()
    seen = capture(model, batch, list("abc"), torch.tensor([True, False, True]))
    network = model.network.lxmert
    kept = {}
    layer = network.encoder.x_layers[1]
    handle = layer.register_forward_pre_hook(lambda _, inputs: kept.update(inputs=inputs))
    with torch.no_grad():
        outputs = network(**stock_inputs(batch), output_attentions=True)
    handle.remove()
    words, _, regions, _ = kept["inputs"][:4]
    attention = layer.visual_attention.att
    query, key = (
        x.unflatten(-1, (2, -1)).transpose(1, 2)
        for x in (attention.query(regions), attention.key(words))
    )
    reads_text = (query @ key.transpose(-1, -2) / 2).softmax(-1)
    steps = [step for step in seen.steps if len(step) == 2]
    assert [(m.query, m.key) for step in steps for m in step] == [
        ("text", "image"),
        ("image", "text"),
    ] * 2
    for step, expected in zip(steps, outputs.cross_encoder_attentions, strict=True):
        close(step[0].attention, expected.mean(1))
    close(steps[1][1].attention, reads_text.mean(1))
    by_stream = {"text": outputs.language_attentions, "image": outputs.vision_attentions}
    for stream, expected in by_stream.items():
        own = [m for m in seen.maps if (m.query, m.key) == (stream, stream)]
        assert len(own) == len(expected) + 2  # in the exchanges, the stock class keeps them
        for found, attention in zip(own, expected, strict=False):
            close(found.attention, attention.mean(1))


def test_maps_have_gradients_as_far_as_they_reach_the_classifier():
    """After the last exchange, regions are read no more."""
    model = new_model("lxmert")
    seen = capture(model, make_batch(), list("abc"), torch.tensor([True, False, True]))
    unread = [(k, m.query) for k, m in enumerate(seen.maps) if not m.relevance.any()]
    last = len(seen.maps) - 1
    assert unread == [(last - 2, "image"), (last, "image")]
    assert [isinstance(step, Parallel) for step in model.edges()].count(True) == 2
    for features, gradient in seen.features.values():
        assert features.unique().numel() > 3
        assert gradient.any()


def test_grad_cam_reads_what_a_single_exchange_reads():
    model = new_model("lxmert", sizes={"x_layers": 1})
    seen = capture(model, make_batch(), list("abc"), torch.tensor([True, False, True]))
    assert seen.features["text"][0].shape == (3, 6, 8)
    assert seen.features["image"][0].shape == (3, 5, 8)
    assert all(gradient.any() for _, gradient in seen.features.values())
    with pytest.raises(ValueError, match="r_layers: found 0, expected at least 1, one layer"):
        new_model("lxmert", sizes={"r_layers": 0})


def test_words_of_a_checkpoint_are_those_of_its_tokenizer(tmp_path):
    save_tokenizer(tmp_path)
    entry = MODELS.get("lxmert")
    spec = entry.input_spec({"weights": str(tmp_path)}, "unused", 20)
    assert spec.tokenizer.encode("Word3").ids == [2, 8, 3]
    assert spec.max_length == 20
    spec.tokenizer.enable_padding(length=9)
    spec.tokenizer.save(str(tmp_path / "own.json"))
    own = entry.input_spec({}, tmp_path / "own.json")
    assert own.max_length == own_inputs(tmp_path / "own.json").max_length == 9


def test_a_file_of_another_size_is_refused(tmp_path):
    network = stock(LxmertForPreTraining)
    torch.save(official(network, "pretrained"), tmp_path / "weights.pth")
    with pytest.raises(DataError, match="has shape"):
        model_of(tmp_path / "weights.pth", sizes={**SIZES, "hidden_size": 16})
