"""Saliency and attention of stock language models, against loops written out with autograd."""

import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from conftest import ROOT
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from unimodal_checkpoints import PLACES, save_text

from mmlens.explanation.causal import (
    classification_saliency,
    generate,
    generation_attention,
    generation_saliency,
    saliency_matrix,
    token_attention,
)
from mmlens.figures.token_bars import token_bars
from mmlens.figures.token_heatmap import token_heatmap

PROMPT, NEW = "a red ring and", 4


def loaded(folder, kind, network):
    save_text(folder, kind, network)
    model = network.from_pretrained(folder, attn_implementation="sdpa")
    return model.double().eval(), AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    return loaded(tmp_path_factory.mktemp("gpt2"), "gpt2", AutoModelForCausalLM)


@pytest.fixture(scope="module", params=["bert", "gpt2", "distilbert", "roberta"])
def classifier(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return loaded(folder, request.param, AutoModelForSequenceClassification)


def naive_steps(model, tokenizer):
    """Token by token: the prompt so far as embeddings, one forward and one backward pass."""
    ids = tokenizer(PROMPT, return_tensors="pt").input_ids
    table, prompt = model.get_input_embeddings().weight, ids.shape[1]
    norms, maps = [], []
    for _ in range(NEW):
        embeddings = table[ids[0]].detach()[None].requires_grad_()
        model.set_attn_implementation("eager")
        out = model(inputs_embeds=embeddings, output_attentions=True)
        model.set_attn_implementation("sdpa")
        best = out.logits[0, -1].argmax()
        (gradient,) = torch.autograd.grad(out.logits[0, -1, best], embeddings)
        norms.append(gradient[0, :prompt].norm(dim=1))
        maps.append(torch.cat(out.attentions)[:, :, -1])
        ids = torch.cat([ids, best[None, None]], 1)
    return torch.stack(norms), maps, ids[0]


def test_saliency_of_generated_tokens_equals_a_naive_loop(gpt2):
    norms, _, ids = naive_steps(*gpt2)
    found = generation_saliency(*gpt2, PROMPT, NEW)
    values, written, tokens = saliency_matrix(found)
    np.testing.assert_allclose(values, norms / norms.sum(1, keepdim=True), rtol=1e-6)
    np.testing.assert_allclose(values.sum(1), 1)
    assert values.shape == (NEW, norms.shape[1])
    assert "".join(tokens) == PROMPT
    assert written == [gpt2[1].decode([number]) for number in ids[norms.shape[1] :]]
    assert np.abs(values[0] - values[1]).max() > 1e-3


def test_saliency_by_the_loss_is_that_of_the_mean_cross_entropy(gpt2):
    model, tokenizer = gpt2
    ids = naive_steps(*gpt2)[2]
    prompt = len(ids) - NEW
    for new, first in ((NEW, prompt), (0, 1)):
        given = ids[: prompt + new]
        embeddings = model.get_input_embeddings().weight[given].detach()[None].requires_grad_()
        labels = given.clone()
        labels[:first] = -100
        loss = model(inputs_embeds=embeddings, labels=labels[None]).loss
        (gradient,) = torch.autograd.grad(loss, embeddings)
        norms = gradient[0, :prompt].norm(dim=1)
        found = generation_saliency(model, tokenizer, PROMPT, new, by="loss")
        np.testing.assert_allclose(found["saliency"], norms / norms.sum(), rtol=1e-6)
        assert found["saliency"].sum() == pytest.approx(1)
        assert set(found["step"]) == {0}


def test_attention_of_every_decoding_step_equals_a_naive_loop(gpt2):
    _, maps, ids = naive_steps(*gpt2)
    found, made = generation_attention(*gpt2, PROMPT, NEW)
    assert found.shape == (NEW, 2, 2, len(ids))
    assert len(made.tokens) == len(ids)
    for step, expected in enumerate(maps):
        there = made.prompt + step
        np.testing.assert_allclose(found[step, ..., :there], expected.detach(), rtol=1e-6)
        assert np.isnan(found[step, ..., there:]).all()


def test_the_model_is_left_as_it_was(gpt2):
    model, tokenizer = gpt2
    ids = tokenizer(PROMPT, return_tensors="pt").input_ids
    with torch.no_grad():
        before = model(ids).logits
        generation_saliency(model, tokenizer, PROMPT, 2)
        generation_attention(model, tokenizer, PROMPT, 2)
        assert torch.equal(model(ids).logits, before)
    assert model.config._attn_implementation == "sdpa"
    assert not model.get_input_embeddings()._forward_hooks
    assert all(parameter.grad is None for parameter in model.parameters())


def test_writing_ends_with_the_token_that_ends_a_text(gpt2):
    model, tokenizer = gpt2
    first = generate(model, tokenizer, PROMPT, 1)
    before = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = int(first.ids[-1])
    try:
        assert generate(model, tokenizer, PROMPT, NEW).written == first.written
    finally:
        model.generation_config.eos_token_id = before


def test_what_cannot_be_explained_is_refused(gpt2):
    model, tokenizer = gpt2
    with pytest.raises(ValueError, match=f"expected at most {PLACES} together"):
        generate(model, tokenizer, PROMPT, PLACES)
    with pytest.raises(ValueError, match="found 'word', expected token or loss"):
        generation_saliency(model, tokenizer, PROMPT, 1, by="word")
    with pytest.raises(ValueError, match="nothing to explain: no token was written"):
        generation_saliency(model, tokenizer, PROMPT, 0)
    with pytest.raises(ValueError, match="the text has no tokens"):
        generate(model, tokenizer, "", 1)
    model.train()
    try:
        with pytest.raises(ValueError, match=r"call model.eval\(\) first"):
            generate(model, tokenizer, PROMPT, 1)
    finally:
        model.eval()


def test_saliency_of_a_classifier_equals_autograd_and_leaves_out_special_tokens(classifier):
    model, tokenizer = classifier
    ids = tokenizer(PROMPT, return_tensors="pt").input_ids
    special = tokenizer(PROMPT, return_special_tokens_mask=True)["special_tokens_mask"]
    embeddings = model.get_input_embeddings().weight[ids[0]].detach()[None].requires_grad_()
    for target in (0, 1):
        logit = model(inputs_embeds=embeddings).logits[0, target]
        (gradient,) = torch.autograd.grad(logit, embeddings)
        norms = gradient[0].norm(dim=1) * (1 - torch.tensor(special))
        found = classification_saliency(model, tokenizer, PROMPT, target)
        np.testing.assert_allclose(found["saliency"], norms / norms.sum(), rtol=1e-6)
        assert set(found["generated"]) == {f"LABEL_{target}"}
    assert found["saliency"].sum() == pytest.approx(1)


def test_attention_between_tokens_is_that_of_every_layer_and_head(classifier):
    model, tokenizer = classifier
    maps, tokens = token_attention(model, tokenizer, PROMPT)
    assert maps.shape == (2, 2, len(tokens), len(tokens))
    np.testing.assert_allclose(maps.sum(-1), 1)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        ids = tokenizer(PROMPT, return_tensors="pt").input_ids
        expected = torch.cat(model(ids, output_attentions=True).attentions)
    model.set_attn_implementation("sdpa")
    np.testing.assert_allclose(maps, expected, rtol=1e-6)


def test_figures_show_every_token_as_it_is():
    tokens = [" a", "$x$", "new\nline"]
    bars = token_bars(tokens, [0.2, 0.5, 0.3], "title")
    labels = [tick.get_text() for tick in bars.axes[0].get_yticklabels()]
    assert labels == ["\N{OPEN BOX}a", r"\$x\$", "new\\nline"]
    assert [patch.get_width() for patch in bars.axes[0].patches] == [0.2, 0.5, 0.3]
    values = np.array([[0.1, np.nan, 0], [0.2, 0.3, 0.5]])
    heatmap = token_heatmap(values, tokens[:2], tokens, "title")
    np.testing.assert_array_equal(heatmap.axes[0].images[0].get_array().filled(np.nan), values)
    for figure in (bars, heatmap):
        figure.canvas.draw()
        plt.close(figure)


def explained_by_the_command(folder, output, *options):
    command = [sys.executable, ROOT / "scripts/explain_text.py", "--model", folder]
    command += ["--text", PROMPT, *(["--output", output] if output else []), *options]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder.parent)


def test_the_command_writes_what_the_library_says_of_a_generator(tmp_path):
    model, tokenizer = loaded(tmp_path / "gpt2", "gpt2", AutoModelForCausalLM)
    done = explained_by_the_command(
        tmp_path / "gpt2", tmp_path / "out", "--max-new-tokens", str(NEW)
    )
    assert done.returncode == 0, done.stderr
    found = pd.read_csv(tmp_path / "out/saliency.csv", keep_default_na=False)
    expected = generation_saliency(model, tokenizer, PROMPT, NEW)
    assert len(found) == len(expected)
    np.testing.assert_allclose(found["saliency"], expected["saliency"], atol=1e-5)
    with np.load(tmp_path / "out/attention.npz") as arrays:
        steps, _, _, tokens = arrays["attention"].shape
        assert (steps, tokens) == (len(arrays["asking"]), len(arrays["tokens"]))
    for name in ("saliency", "attention"):
        assert (tmp_path / f"out/{name}.png").stat().st_size > 5000


def test_the_command_explains_a_class_and_refuses_one_that_is_not_there(tmp_path):
    loaded(tmp_path / "bert", "bert", AutoModelForSequenceClassification)
    done = explained_by_the_command(tmp_path / "bert", None, "--target", "0")
    assert done.returncode == 0, done.stderr
    assert pd.read_csv(tmp_path / "text/saliency.csv")["saliency"].sum() == pytest.approx(1)
    refused = explained_by_the_command(tmp_path / "bert", tmp_path / "no", "--target", "7")
    assert refused.returncode == 1
    assert "target: found 7, expected 0 to 1" in refused.stderr
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("network", ["AutoModel", "AutoModelForMaskedLM"])
def test_the_command_refuses_weights_without_the_head_it_needs(tmp_path, network):
    loaded(tmp_path / "bert", "bert", getattr(transformers, network))
    refused = explained_by_the_command(tmp_path / "bert", tmp_path / "no")
    assert refused.returncode == 1
    assert "expected those of a model with a head" in refused.stderr


def test_a_model_that_keeps_no_past_generates_nothing(tmp_path):
    model, tokenizer = loaded(tmp_path / "bert", "bert", transformers.AutoModelForMaskedLM)
    with pytest.raises(ValueError, match="does not generate"):
        generate(model, tokenizer, PROMPT, 2)
