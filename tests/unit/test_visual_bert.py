"""VisualBERT: the stock class's own numbers, MMF's classifier, and its files."""

import json

import pytest
import torch
import torch.nn.functional as F
from region_batches import RUN, close, logits_of, make_batch, new_model, shaken
from transformers import (
    VisualBertConfig,
    VisualBertForPreTraining,
    VisualBertForQuestionAnswering,
    VisualBertModel,
)

from mmlens.explanation.capture import capture
from mmlens.models import MODELS
from mmlens.table import DataError

torch.set_num_threads(1)

SIZES = {"vocab_size": 30, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16}
SIZES |= {"num_hidden_layers": 3, "visual_embedding_dim": 6, "max_position_embeddings": 16}
SIZES |= {"initializer_range": 0.3}
EMBEDDINGS = "model.bert.embeddings."


def stock(entry=VisualBertModel, **sizes):
    """A stock network; its segments of regions differ from each other and from those of words."""
    torch.manual_seed(2)
    return shaken(entry(VisualBertConfig(**SIZES, pad_token_id=0, **sizes))).eval()


def classifier():
    """MMF's, of the pooled first word, by its names."""
    torch.manual_seed(3)
    shapes = {"0.dense.weight": (8, 8), "0.dense.bias": (8,), "1.weight": (2, 8), "1.bias": (2,)}
    shapes |= {"0.LayerNorm.weight": (8,), "0.LayerNorm.bias": (8,)}
    return {f"classifier.{name}": torch.randn(shape) for name, shape in shapes.items()}


def model_of(weights, **options):
    return MODELS.get("visual_bert")(**RUN, weights=str(weights), **options).eval()


@torch.no_grad()
def stock_outputs(network, batch, segment=1, **options):
    return network(
        input_ids=batch.input_ids,
        attention_mask=batch.text_valid.float(),
        visual_embeds=batch.image,
        visual_attention_mask=batch.image_valid.float(),
        visual_token_type_ids=torch.full(batch.image.shape[:2], segment),
        **options,
    )


def mmf_scores(pooled, head):
    x = F.gelu(F.linear(pooled, head["classifier.0.dense.weight"], head["classifier.0.dense.bias"]))
    norm = (head["classifier.0.LayerNorm.weight"], head["classifier.0.LayerNorm.bias"])
    x = F.layer_norm(x, (8,), *norm, 1e-12)
    return F.linear(x, head["classifier.1.weight"], head["classifier.1.bias"])


def mmf_state(network, head, older=False):
    """The state of a stock trunk and of a classifier as MMF names them."""
    names = {"visual_token_type_embeddings": "token_type_embeddings_visual"}
    names |= {"visual_position_embeddings": "position_embeddings_visual"}
    names |= {"visual_projection": "projection"}
    state = {f"bert.{name}": value for name, value in network.state_dict().items()}
    for own, mmf in names.items():
        state = {name.replace(own, mmf): value for name, value in state.items()}
    prefix = "bert." if older else "model."
    return {f"{prefix}{name}": value for name, value in {**state, **head}.items()}


@pytest.mark.parametrize("padding", [(0, 0), (3, 2)])
def test_states_are_those_of_the_stock_class(tmp_path, padding):
    network, batch = stock(), make_batch(padding=padding, dtype=torch.float32)
    network.save_pretrained(tmp_path)
    model = model_of(tmp_path)
    outputs = stock_outputs(network, batch)
    with torch.no_grad():
        tokens = model.embed(batch)
        hidden = model.encode(tokens)
        seen = model.layout(tokens).valid["joint"]
        pooled = model.network.visual_bert.pooler(hidden["joint"])
    close(hidden["joint"][seen], outputs.last_hidden_state[seen], 1e-5)
    close(pooled, outputs.pooler_output, 1e-5)
    head = {n: v for n, v in model.network.state_dict().items() if n.startswith("classifier.")}
    scores = mmf_scores(pooled, head)
    close(logits_of(model, batch), scores[:, 1] - scores[:, 0], 1e-5)
    missing = {name.split(".")[0] for name in model.report.missing}
    assert missing == {"cls", "classifier"}


@pytest.mark.parametrize("older", [False, True])
def test_files_of_mmf_give_its_logits(tmp_path, older):
    """Its regions are in segment 0, which makes a difference."""
    network, head, batch = stock(), classifier(), make_batch(dtype=torch.float32)
    torch.save({"model": mmf_state(network, head, older)}, tmp_path / "mmf.pth")
    model = model_of(tmp_path / "mmf.pth", sizes=SIZES)
    assert all(name.startswith("cls.") for name in model.report.missing)
    for segment, same in ((0, True), (1, False)):
        scores = mmf_scores(stock_outputs(network, batch, segment).pooler_output, head)
        expected = scores[:, 1] - scores[:, 0]
        assert torch.allclose(logits_of(model, batch), expected, atol=1e-5) == same


def test_a_classifier_of_answers_is_read_where_they_are_named(tmp_path):
    network, head = stock(), classifier()
    torch.save({"model": mmf_state(network, head)}, tmp_path / "mmf.pth")
    (tmp_path / "answers.json").write_text(json.dumps(["no", "yes"]))
    batch = make_batch(dtype=torch.float32)
    scores = mmf_scores(stock_outputs(network, batch, 0).pooler_output, head)
    options = {"sizes": SIZES, "outputs": 2}
    named = model_of(tmp_path / "mmf.pth", **options, answers=str(tmp_path / "answers.json"))
    close(logits_of(named, batch), scores, 1e-5)
    fresh = model_of(tmp_path / "mmf.pth", **options)
    assert "model.classifier.1.bias" in fresh.report.unexpected
    assert "classifier.1.bias" in fresh.report.missing


@pytest.mark.parametrize("entry", [VisualBertForPreTraining, VisualBertForQuestionAnswering])
def test_a_stock_class_with_heads_is_read(tmp_path, entry):
    network = stock(entry)
    network.save_pretrained(tmp_path)
    model = model_of(tmp_path)
    own = model.network.state_dict()
    for name, value in network.visual_bert.state_dict().items():
        assert torch.equal(own[f"visual_bert.{name}"], value), name
    if entry is VisualBertForPreTraining:
        assert model.report.unexpected == ()
        batch = make_batch(dtype=torch.float32)
        with torch.no_grad():
            tokens = model.embed(batch)
            words = model.word_logits(model.encode(tokens), tokens)
        expected = stock_outputs(network, batch).prediction_logits
        close(words, expected[:, : words.shape[1]], 1e-5)
    else:
        assert sorted(model.report.unexpected) == ["cls.bias", "cls.weight"]


def test_all_faults_of_a_file_are_named_at_once(tmp_path):
    state = mmf_state(stock(), classifier())
    del state["model.bert.encoder.layer.1.attention.self.key.bias"]
    del state["model.classifier.0.dense.bias"]
    state[f"{EMBEDDINGS}projection.weight"] = torch.zeros(8, 7)
    state["model.bert.encoder.layer.3.output.dense.bias"] = torch.zeros(8)
    torch.save({"model": state}, tmp_path / "mmf.pth")
    with pytest.raises(DataError) as caught:
        model_of(tmp_path / "mmf.pth", sizes=SIZES)
    assert sorted(problem.split(": ", 1)[1] for problem in caught.value.problems) == [
        "no classifier.0.dense.bias; expected (8,)",
        "no visual_bert.encoder.layer.1.attention.self.key.bias; expected (8,)",
        "unexpected model.bert.encoder.layer.3.output.dense.bias (8,); the network has no such "
        "tensor",
        "visual_bert.embeddings.visual_projection.weight has shape (8, 7); expected (8, 6)",
    ]


def test_networks_that_do_not_fit_are_refused(tmp_path):
    stock().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="bypass_transformer: found True, expected exactly False"):
        model_of(tmp_path, sizes={"bypass_transformer": True})
    with pytest.raises(ValueError, match="num_hidden_layers: found 1, expected at least 2"):
        new_model("visual_bert", sizes={"num_hidden_layers": 1})
    torch.save({"model": mmf_state(stock(), {})}, tmp_path / "mmf.pth")
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match="visual_embedding_dim: found 2048, expected exactly 6"):
        model_of(tmp_path / "mmf.pth")


def test_maps_are_those_of_the_stock_class_and_have_gradients():
    model, batch = new_model("visual_bert"), make_batch()
    seen = capture(model, batch, list("abc"), torch.tensor([True, False, True]))
    expected = stock_outputs(model.network.visual_bert, batch, output_attentions=True).attentions
    assert len(seen.maps) == len(expected) == 4
    for found, attention in zip(seen.maps, expected, strict=True):
        close(found.attention, attention.mean(1))
        assert found.relevance.any()
    for features, gradient in seen.features.values():
        assert features.shape[2] == 8
        assert gradient.any()
