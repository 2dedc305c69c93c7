"""clip and siglip: what their stock classes compute, from their checkpoints."""

import json
import string
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from stock_checkpoints import save_clip, save_siglip
from stock_samples import everything, read_stock, stock_pixels
from transformers import AutoTokenizer, CLIPConfig, PreTrainedTokenizerFast

from mmlens.explanation import METHODS
from mmlens.explanation.capture import capture
from mmlens.explanation.explain import explain
from mmlens.models import MODELS, build_model, input_spec
from mmlens.models.released import fresh_weights
from mmlens.models.stock import stock_config
from mmlens.perturbation.engine import perturb
from mmlens.table import DataError
from mmlens.training.contrastive import contrastive_loss
from mmlens.training.zero_shot import class_logits

torch.set_num_threads(1)
SAVERS = {"clip": save_clip, "siglip": save_siglip}
TEXTS = {
    "clip": ["ab c de", "f", "gh abc d", "e f g"],
    "siglip": ["word1 word2 word3", "word4", "word5 word1 word6", "word7 word8"],
}
METHOD_NAMES = ("raw_attention", "rollout", "relevance", "grad_cam", "saliency")
named = pytest.mark.parametrize("name", SAVERS)


def read(name, folder, texts=None, **options):
    return read_stock(name, folder, texts or TEXTS[name], **options)


def stock_inputs(name, folder, samples):
    """Inputs of the stock class by its own tokenizer and image processor."""
    texts = samples["text"].tolist()
    if name == "clip":
        words = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    else:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        filled = {"padding": "max_length", "max_length": 16, "return_tensors": "pt"}
        words = {"input_ids": tokenizer(texts, **filled).input_ids}
    return {**words, "pixel_values": stock_pixels(folder, samples)}


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@named
@torch.no_grad()
def test_similarities_are_those_of_the_stock_class(tmp_path, name):
    stock = SAVERS[name](tmp_path)
    model, data = read(name, tmp_path, head="similarity")
    said = stock(**stock_inputs(name, tmp_path, data.samples))
    expected = said.logits_per_image
    tokens = everything(model, data)
    close(model(tokens), expected.diagonal())
    text, image, scale, bias = model.pair_embeddings(tokens)
    close(image @ text.T * scale + (0 if bias is None else bias), expected)
    close(text, said.text_embeds)
    close(image, said.image_embeds)
    assert expected.std() > 1e-3


@named
@torch.no_grad()
def test_maps_are_those_of_the_stock_class_and_attention_is_switched_back(tmp_path, name):
    stock = SAVERS[name](tmp_path)
    model, data = read(name, tmp_path)
    stock.set_attn_implementation("eager")
    said = stock(**stock_inputs(name, tmp_path, data.samples), output_attentions=True)
    batch = data.batch(torch.arange(4))
    found = capture(model, batch, list("abcd"), torch.ones(4).bool())
    # The map of SigLIP's pooling is the last one, which its stock class does not give.
    expected = [*said.text_model_output.attentions, *said.vision_model_output.attentions]
    assert len(found.maps) == len(expected) + (name == "siglip")
    for own, theirs in zip(found.maps, expected, strict=False):
        close(own.attention, theirs.mean(1))
    towers = (model.network.text_model, model.network.vision_model)
    assert [tower.config._attn_implementation for tower in towers] == ["sdpa", "sdpa"]


@named
def test_methods_give_maps_that_tell_tokens_apart(tmp_path, name):
    SAVERS[name](tmp_path)
    model, data = read(name, tmp_path)
    target = torch.tensor([True, False, True, True])
    frame = explain(model, data, target, methods=METHOD_NAMES, draws=1, batch_size=2, device="cpu")
    assert frame["method"].value_counts().to_dict() == dict.fromkeys(METHOD_NAMES, 4)
    letters = [len(text.replace(" ", "")) for text in TEXTS[name]]
    counts = letters if name == "clip" else [len(text.split()) for text in TEXTS[name]]
    for row in frame.itertuples():
        number = int(row.sample_id[-1])
        assert len(row.image) == 16
        assert len(row.text) == len(row.tokens) == counts[number]
        assert np.isfinite(row.image).all()
        assert np.isfinite(row.text).all()
    # A map that is cut at 0 may be 0 everywhere for one class.
    constant = frame[frame["flags"] != ""]["method"]
    assert set(constant) <= {"grad_cam"}


@named
def test_no_token_is_needed_but_the_special_ones(tmp_path, name):
    SAVERS[name](tmp_path)
    model, data = read(name, tmp_path)
    target = torch.ones(4, dtype=torch.bool)
    maps = explain(model, data, target, methods=["rollout"], draws=1, batch_size=4, device="cpu")
    with torch.no_grad():
        tokens, whole = everything(model, data), model(everything(model, data))
    scores = perturb(
        model, tokens, maps, data.samples, steps=(0, 0.5, 1), protocol="default", batch_size=8
    )
    assert np.isfinite(scores["logit"]).all()
    none = scores[scores["fraction"] == 0].drop_duplicates("sample_id")["logit"].to_numpy()
    assert np.allclose(none, whole, atol=1e-5)
    assert not np.allclose(
        scores[scores["fraction"] == 1]["logit"].to_numpy()[:4], whole, atol=1e-3
    )


@named
def test_training_on_pairs_brings_them_together(tmp_path, name):
    SAVERS[name](tmp_path)
    model, data = read(name, tmp_path, head="similarity")
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


@named
@torch.no_grad()
def test_classes_are_told_by_their_names(tmp_path, name):
    stock = SAVERS[name](tmp_path)
    model, data = read(name, tmp_path, head="similarity")
    names = [text.split()[0] for text in TEXTS[name]]
    found = class_logits(model, data, torch.arange(4), names, ["{name}"], "cpu")
    inputs = stock_inputs(name, tmp_path, data.samples.assign(text=names))
    close(found, stock(**inputs).logits_per_image)


@named
def test_a_fresh_head_is_reported_and_only_the_similarity_is_published(tmp_path, name, capsys):
    SAVERS[name](tmp_path)
    model, data = read(name, tmp_path)
    assert "missing: classifier.0.weight" in capsys.readouterr().out
    batch = data.batch(torch.arange(2))
    assert "classifier.0.weight" in fresh_weights(model, batch)
    model, data = read(name, tmp_path, head="similarity")
    assert "0 of the network missing" in capsys.readouterr().out
    assert fresh_weights(model, batch) == []


def change_weights(folder, change):
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")


@named
def test_missing_and_unexpected_tensors_are_all_named(tmp_path, name):
    SAVERS[name](tmp_path)

    def spoil(state):
        state["other.weight"] = state.pop("text_model.encoder.layers.1.mlp.fc2.bias")
        state["logit_scale"] = torch.zeros(3)

    change_weights(tmp_path, spoil)
    with pytest.raises(DataError, match="3 problems") as caught:
        read(name, tmp_path)
    for part in ("no text_model.encoder.layers.1.mlp.fc2.bias", "unexpected other.weight"):
        assert part in str(caught.value)
    assert "logit_scale has shape (3,)" in str(caught.value)


@named
def test_buffers_of_older_files_are_no_obstacle(tmp_path, name):
    SAVERS[name](tmp_path)
    ids = {f"{part}_model.embeddings.position_ids": torch.arange(3) for part in ("text", "vision")}
    change_weights(tmp_path, lambda state: state.update(ids))
    model, _ = read(name, tmp_path)
    assert set(model.report.unexpected) == set(ids)


@named
def test_files_that_do_not_fit_each_other_are_errors(tmp_path, name):
    SAVERS[name](tmp_path)
    _, data = read(name, tmp_path)
    data.vocabulary_size += 1
    with pytest.raises(ValueError, match=r"vocab_size: found .*, expected at least"):
        build_model(name, {"weights": str(tmp_path)}, data)
    path = tmp_path / "preprocessor_config.json"
    settings = json.loads(path.read_text())
    square = {"height": 40, "width": 40}
    path.write_text(json.dumps(settings | {"size": square, "crop_size": square}))
    with pytest.raises(DataError, match="40 x 40 pixels; expected 32 x 32"):
        input_spec(name, {"weights": str(tmp_path)}, None)
    config = json.loads((tmp_path / "config.json").read_text()) | {"model_type": "siglip2"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match=f"model_type: found siglip2, expected {name}"):
        input_spec(name, {"weights": str(tmp_path)}, None)


@named
def test_heads_and_sizes_are_checked(name):
    run = {"vocabulary_size": 30, "max_length": 12, "image_size": 48, "width": 8, "heads": 2}
    build = MODELS.get(name)
    with pytest.raises(ValueError, match="head: found 'x', expected classifier or similarity"):
        build(**run, head="x")
    with pytest.raises(ValueError, match="one number, but the run has 3 answers"):
        build(**run, head="similarity", outputs=3)
    with pytest.raises(ValueError, match=r"text_config: .*hidden_sizes"):
        build(**run, sizes={"text_config": {"hidden_sizes": 4}})
    model = build(**run, sizes={"vision_config": {"num_hidden_layers": 5}})
    layers = [len(tower.encoder.layers) for tower in model.towers.values()]
    assert layers == [3, 5]


def test_the_end_of_a_text_is_read_wherever_it_lies(tmp_path):
    save_clip(tmp_path)
    model, data = read("clip", tmp_path)
    layout = model.layout(everything(model, data))
    assert layout.readouts[0][1].tolist() == [6, 2, 7, 4]  # START, letters, END
    assert layout.readouts[1] == ("image", 0)


def test_texts_are_as_long_as_the_tokenizer_makes_them_and_the_network_reads(tmp_path):
    save_clip(tmp_path)
    settings = {"weights": str(tmp_path)}
    path = tmp_path / "tokenizer_config.json"
    said = json.loads(path.read_text())
    for most, expected in ((10, 10), (10**30, 20)):
        path.write_text(json.dumps(said | {"model_max_length": most}))
        assert input_spec("clip", settings, None).max_length == expected
    assert input_spec("clip", settings, None, 8).max_length == 8


def test_siglip_reads_texts_as_it_was_trained(tmp_path):
    save_siglip(tmp_path)
    _, data = read("siglip", tmp_path, ["Word1, WORD2", "word1 , word2"])
    assert data.input_ids.shape == (2, 16)
    assert data.valid.all()
    assert torch.equal(data.input_ids[0], data.input_ids[1])  # punctuation is unknown to it
    assert data.content.sum(1).tolist() == [3, 3]
    assert data.words(0)[0] == ["Word1", ",", "WORD2"]


def test_the_first_siglip_reads_no_punctuation(tmp_path):
    save_siglip(tmp_path, tokenizer_class="SiglipTokenizer")
    texts = [f"{string.punctuation}Word1  word2. ", "word1 word2"]
    _, data = read("siglip", tmp_path, texts)
    assert torch.equal(data.input_ids[0], data.input_ids[1])


def test_the_length_of_siglips_texts_is_fixed(tmp_path):
    save_siglip(tmp_path)
    with pytest.raises(DataError, match="max_length: found 8, expected 16"):
        input_spec("siglip", {"weights": str(tmp_path)}, None, 8)


def test_sizes_count_above_both_names_of_a_part(tmp_path):
    save_clip(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["text_config_dict"] = config["text_config"]
    path.write_text(json.dumps(config))
    sizes = {"text_config": {"attention_dropout": 0.25}}
    found = stock_config(CLIPConfig, str(tmp_path), {}, {}, sizes)
    assert found.text_config.attention_dropout == 0.25
    assert found.text_config.hidden_size == config["text_config"]["hidden_size"]


def test_siglip_needs_padding(tmp_path):
    save_siglip(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    del settings["pad_token"]
    path.write_text(json.dumps(settings))
    with pytest.raises(DataError, match="no pad_token"):
        input_spec("siglip", {"weights": str(tmp_path)}, None)


def test_padding_that_siglip_reads_is_never_removed(tmp_path):
    save_siglip(tmp_path)
    model, data = read("siglip", tmp_path)
    tokens = everything(model, data)
    text = tokens["text"]
    assert text.values.shape[1] == 16
    kept = torch.tensor([k for k in range(16) if k != 0]).expand(4, -1)
    with torch.no_grad():
        hidden = text.valid.clone()
        hidden[:, 0] = False
        removed = model({**tokens, "text": text.gather(kept)})
        masked = model({**tokens, "text": replace(text, valid=hidden)})
    close(removed, masked)


def test_relevance_of_siglips_image_goes_through_its_pooling(tmp_path):
    save_siglip(tmp_path)
    model, data = read("siglip", tmp_path)
    seen = capture(model, data.batch(torch.arange(4)), list("abcd"), torch.ones(4).bool())
    pooling = seen.maps_between("pooling", "image")[-1]
    assert pooling.attention.shape == (4, 1, 16)
    close(METHODS.get("raw_attention")(seen)["image"], pooling.attention[:, 0])
    joint = torch.eye(16)
    for own in seen.maps:
        if (own.query, own.key) == ("image", "image"):
            joint = (own.attention + torch.eye(16)) / 2 @ joint
    rollout = METHODS.get("rollout")(seen)["image"]
    close(rollout, (pooling.attention @ joint)[:, 0] / 2)
