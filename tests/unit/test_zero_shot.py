"""Zero-shot classification: every image against the prompt of every class, one by one."""

from itertools import pairwise

import pandas as pd
import pytest
import torch
from PIL import Image

from mmlens.datasets.vocabulary import train_tokenizer
from mmlens.models import build_model
from mmlens.models.inputs import EncodedSamples, own_inputs
from mmlens.training import zero_shot
from mmlens.training.predict import prediction_table
from mmlens.training.zero_shot import (
    class_logits,
    fill_prompt,
    image_embeddings,
    pair_logits,
    text_embeddings,
    texts_of,
)

NAMES = ["cat", "big dog", "bird"]
PROMPT = "a photo of a {name}"


@pytest.fixture
def data(tmp_path):
    torch.manual_seed(0)
    paths = []
    for k in range(5):
        pixels = (torch.rand(32, 32, 3) * 255).byte().numpy()
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
        paths.append(str(tmp_path / f"{k}.png"))
    samples = pd.DataFrame({"image": paths, "text": "a photo of a bird", "label": [0, 1, 2, 0, 1]})
    samples["sample_id"] = [f"{k}" for k in range(5)]
    samples["split"] = "test"
    texts = [fill_prompt(PROMPT, name) for name in NAMES]
    train_tokenizer(texts, texts).save(str(tmp_path / "tokenizer.json"))
    return EncodedSamples(samples, own_inputs(tmp_path / "tokenizer.json", 32))


def scratch(data, name="vilt_scratch"):
    torch.manual_seed(0)
    return build_model(name, {"width": 16, "heads": 2, "image_size": 32}, data).eval()


def alone(model, data, row, name):
    """Tokens of one image and one prompt, without any batching."""
    sample = data.samples.iloc[[row]].assign(text=fill_prompt(PROMPT, name))
    return model.embed(EncodedSamples(sample, data.spec).batch(torch.arange(1)))


@torch.no_grad()
def test_a_pair_scoring_model_sees_every_image_with_every_prompt(data, monkeypatch):
    monkeypatch.setattr(zero_shot, "PAIRS", 7)  # two images at a time
    model = scratch(data)
    found = class_logits(model, data, torch.arange(5), NAMES, [PROMPT], "cpu")
    expected = [[model(alone(model, data, row, n)).item() for n in NAMES] for row in range(5)]
    assert torch.allclose(found, torch.tensor(expected), atol=1e-5)
    assert all(found[:, a].ne(found[:, b]).all() for a, b in pairwise(range(3)))


@torch.no_grad()
@pytest.mark.parametrize("count", [2, 5])
def test_a_contrastive_model_compares_embeddings(data, count):
    """With fewer and with more images than prompts."""
    model = scratch(data, "clip_scratch")
    found = class_logits(model, data, torch.arange(count), NAMES, [PROMPT], "cpu")
    for row in range(count):
        for column, name in enumerate(NAMES):
            hidden = model.encode(alone(model, data, row, name))
            text, image = hidden["text"][0, 0], hidden["image"][0, 0]
            expected = torch.cosine_similarity(text, image, dim=0) / 0.07
            assert found[row, column].item() == pytest.approx(expected.item(), abs=1e-4)


@torch.no_grad()
def test_of_several_prompts_embeddings_or_logits_are_averaged(data):
    prompts = [PROMPT, "{name}", "a big {name}"]
    rows = torch.arange(5)
    for name in ("vilt_scratch", "clip_scratch"):
        model = scratch(data, name)
        found = class_logits(model, data, rows, NAMES, prompts, "cpu")
        if name == "vilt_scratch":
            each = [class_logits(model, data, rows, NAMES, [prompt], "cpu") for prompt in prompts]
            assert torch.allclose(found, torch.stack(each).mean(0), atol=1e-5)
            continue
        texts = [texts_of(data, [fill_prompt(p, name) for name in NAMES]) for p in prompts]
        words = torch.stack([text_embeddings(model, own, "cpu")[0] for own in texts]).mean(0)
        images, scale, _ = image_embeddings(model, data, rows, "cpu")
        expected = torch.cosine_similarity(images[:, None], words[None], dim=-1) * scale
        assert torch.allclose(found, expected, atol=1e-4)


@torch.no_grad()
def test_pairs_are_scored_as_they_would_be_one_by_one(data, monkeypatch):
    monkeypatch.setattr(zero_shot, "PAIRS", 2)
    texts = texts_of(data, [fill_prompt(PROMPT, name) for name in NAMES])
    pairs = torch.tensor([[0, 2], [0, 0], [3, 1], [4, 1], [4, 2]])
    for name in ("vilt_scratch", "blip_scratch", "vilbert_scratch"):
        model = scratch(data, name)
        found = pair_logits(model, data, texts, pairs, "cpu")
        expected = [model(alone(model, data, row, NAMES[k])).item() for row, k in pairs.tolist()]
        assert torch.allclose(found, torch.tensor(expected), atol=1e-5)


def test_the_prediction_is_the_class_that_fits_best(data):
    logits = torch.tensor([[1.0, 3, 2], [0, 0, 1], [5, 4, 6], [1, 0, 0], [2, 9, 8]])
    table = prediction_table(lambda rows: logits[rows], data, ("test",))
    assert table["prediction"].tolist() == [1, 2, 2, 0, 1]
    assert table["logit"].tolist() == [3, 1, 6, 1, 9]
    assert table["answers_top5"].tolist()[0] == "[1, 2, 0]"
    assert table["threshold"].isna().all()
