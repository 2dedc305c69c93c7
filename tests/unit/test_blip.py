"""blip and blip_contrastive: what their stock class computes, from its checkpoints."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from stock_checkpoints import save_blip
from stock_samples import everything, read_stock, stock_pixels
from transformers import (
    AutoTokenizer,
    BlipForConditionalGeneration,
    BlipForQuestionAnswering,
)

from mmlens.explanation.capture import capture
from mmlens.explanation.explain import explain
from mmlens.models import MODELS
from mmlens.models.released import fresh_weights
from mmlens.table import DataError
from mmlens.training.contrastive import contrastive_loss

torch.set_num_threads(1)
TEXTS = ["word1 word2 word3", "word4", "word5 word1 word6 word2", "word7 word8"]
METHOD_NAMES = ("raw_attention", "rollout", "relevance", "grad_cam", "saliency")


def read(folder, name="blip", **options):
    return read_stock(name, folder, TEXTS, **options)


def stock_inputs(folder, samples):
    texts = samples["text"].tolist()
    words = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    parts = {key: words[key] for key in ("input_ids", "attention_mask")}
    return {**parts, "pixel_values": stock_pixels(folder, samples)}


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_matching_is_that_of_the_stock_class(tmp_path):
    stock = save_blip(tmp_path)
    model, data = read(tmp_path, head="matching")
    scores = stock(**stock_inputs(tmp_path, data.samples)).itm_score
    expected = scores[:, 1] - scores[:, 0]
    close(model(everything(model, data)), expected)
    assert expected.std() > 1e-3
    assert not hasattr(model, "pair_embeddings")  # it scores pairs by their logits


@torch.no_grad()
def test_words_that_see_the_image_begin_with_enc(tmp_path):
    """As published; [ENC] is the last of a vocabulary that has [DEC] before it."""
    stock = save_blip(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    count = config["text_config"]["vocab_size"]
    config["text_config"]["bos_token_id"] = count - 2
    path.write_text(json.dumps(config))
    model, data = read(tmp_path, head="matching")
    inputs = stock_inputs(tmp_path, data.samples)
    inputs["input_ids"][:, 0] = count - 1
    scores = stock(**inputs).itm_score
    close(model(everything(model, data)), scores[:, 1] - scores[:, 0])
    # The text alone does not.
    alone, _ = read(tmp_path, "blip_contrastive")
    expected = stock(**stock_inputs(tmp_path, data.samples), use_itm_head=False).itm_score
    text, image, _, _ = alone.pair_embeddings(everything(alone, data))
    close(image @ text.T, expected)


@torch.no_grad()
def test_cosines_are_those_of_the_stock_class(tmp_path):
    stock = save_blip(tmp_path)
    model, data = read(tmp_path, "blip_contrastive")
    inputs = stock_inputs(tmp_path, data.samples)
    expected = stock(**inputs, use_itm_head=False).itm_score
    tokens = everything(model, data)
    text, image, scale, bias = model.pair_embeddings(tokens)
    close(image @ text.T, expected)
    close(model(tokens), expected.diagonal() / 0.07)
    close(scale, torch.tensor(1 / 0.07))
    assert bias is None
    assert expected.std() > 1e-3


def test_maps_of_the_image_are_those_of_the_stock_class(tmp_path):
    stock = save_blip(tmp_path)
    model, data = read(tmp_path, head="matching")
    batch = data.batch(torch.arange(4))
    found = capture(model, batch, list("abcd"), torch.ones(4).bool())
    pairs = [(m.query[0], m.key[0]) for m in found.maps]
    assert pairs == [("i", "i")] * 2 + [("t", "t"), ("t", "i")] * 2
    with torch.no_grad():
        inputs = stock_inputs(tmp_path, data.samples)
        said = stock.vision_model(inputs["pixel_values"], output_attentions=True)
    for own, theirs in zip(found.maps, said.attentions, strict=False):
        close(own.attention, theirs.mean(1))
    assert all(m.relevance.abs().sum() > 0 for m in found.maps)


@pytest.mark.parametrize("name", ["blip", "blip_contrastive"])
def test_methods_give_maps_that_tell_tokens_apart(tmp_path, name):
    save_blip(tmp_path)
    model, data = read(tmp_path, name)
    target = torch.tensor([True, False, True, True])
    frame = explain(model, data, target, methods=METHOD_NAMES, draws=1, batch_size=2, device="cpu")
    for row in frame.itertuples():
        assert len(row.image) == 16
        assert len(row.text) == len(TEXTS[int(row.sample_id[-1])].split())
        assert np.isfinite([*row.image, *row.text]).all()
    # A map that is cut at 0 may be 0 everywhere for one class.
    assert set(frame[frame["flags"] != ""]["method"]) <= {"grad_cam"}


def test_training_on_pairs_brings_them_together(tmp_path):
    save_blip(tmp_path)
    model, data = read(tmp_path, "blip_contrastive")
    batch = data.batch(torch.arange(4))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(20):
        loss = contrastive_loss(*model.pair_embeddings(model.embed(batch)), torch.arange(4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.85 * losses[0]


def test_only_what_a_head_reads_is_kept(tmp_path):
    save_blip(tmp_path)
    found = {
        (name, head): {key.split(".")[1] for key in model.state_dict() if key[0] == "n"}
        for name, head in (("blip", "matching"), ("blip", "classifier"), ("blip_contrastive", None))
        for model, _ in [read(tmp_path, name, **({"head": head} if head else {}))]
    }
    towers = {"vision_model", "text_encoder"}
    assert found["blip", "matching"] == towers | {"itm_head"}
    assert found["blip", "classifier"] == towers
    assert found["blip_contrastive", None] == towers | {"vision_proj", "text_proj"}
    model, _ = read(tmp_path, "blip_contrastive")
    assert not any("crossattention" in key for key in model.state_dict())


def test_the_encoder_of_the_network_for_vqa_can_be_fine_tuned(tmp_path, capsys):
    stock = save_blip(tmp_path, BlipForQuestionAnswering)
    model, data = read(tmp_path)
    words = model.network.text_encoder.embeddings.word_embeddings.weight
    assert torch.equal(words, stock.text_encoder.embeddings.word_embeddings.weight)
    shown = capsys.readouterr().out
    assert "not read: text_decoder.cls.predictions.bias" in shown
    assert "missing: classifier.0.weight" in shown
    assert "classifier.0.weight" in fresh_weights(model, data.batch(torch.arange(2)))
    with pytest.raises(DataError, match=r"no itm_head\.weight"):
        read(tmp_path, head="matching")


def test_the_captioner_is_no_start(tmp_path):
    save_blip(tmp_path, BlipForConditionalGeneration)
    with pytest.raises(DataError, match=r"no text_encoder\.embeddings\.word_embeddings\.weight"):
        read(tmp_path)


def test_missing_tensors_are_all_named(tmp_path):
    save_blip(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    cross = "text_encoder.encoder.layer.1.crossattention.self.key.bias"
    for name in (cross, "vision_model.embeddings.class_embedding"):
        del state[name]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="2 problems") as caught:
        read(tmp_path)
    assert f"no {cross}" in str(caught.value)
    assert "no vision_model.embeddings.class_embedding" in str(caught.value)
    with pytest.raises(DataError, match="class_embedding"):  # it does not read the other one
        read(tmp_path, "blip_contrastive")


def test_heads_are_checked():
    run = {"vocabulary_size": 30, "max_length": 12, "image_size": 48, "width": 8, "heads": 2}
    with pytest.raises(ValueError, match="head: found 'x', expected classifier or matching"):
        MODELS.get("blip")(**run, head="x")
    for name, options in (("blip", {"head": "matching"}), ("blip_contrastive", {})):
        with pytest.raises(ValueError, match="3"):
            MODELS.get(name)(**run, outputs=3, **options)


def test_from_scratch_masked_words_teach_it():
    run = {"vocabulary_size": 30, "max_length": 12, "image_size": 48, "width": 8, "heads": 2}
    model = MODELS.get("blip")(**run).eval()
    assert model.masked_words
    text = torch.randn(2, 5, 8)
    assert model.word_logits({"text": text}, None).shape == (2, 5, 30)
    assert not MODELS.get("blip_contrastive")(**run).masked_words
