"""Contrastive losses against those of transformers, and with several texts of one image."""

import pytest
import torch
import torch.nn.functional as F
from training_data import new_model, settings, write_data
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

from mmlens.training import loop
from mmlens.training.contrastive import contrastive_loss, info_nce, sigmoid_loss
from mmlens.training.selection import validate


def embeddings(count=6, width=8):
    generator = torch.Generator().manual_seed(0)
    pair = torch.randn((2, count, width), generator=generator, dtype=torch.float64)
    text, image = F.normalize(pair, dim=-1)
    return text.requires_grad_(), image.requires_grad_()


def outputs_of(kind, config):
    """A small network of transformers with its pairs' embeddings and its own loss."""
    sizes = {
        "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2,
        "num_hidden_layers": 1,
    }  # fmt: skip
    text = {**sizes, "vocab_size": 20, "max_position_embeddings": 8, "projection_size": 16}
    vision = {**sizes, "image_size": 32, "patch_size": 16}
    torch.manual_seed(0)
    model = kind(config(text_config=text, vision_config=vision)).eval()
    inputs = {"input_ids": torch.randint(2, 20, (5, 8)), "pixel_values": torch.randn(5, 3, 32, 32)}
    return model, model(**inputs, return_loss=True)


def test_info_nce_is_clips():
    model, output = outputs_of(CLIPModel, CLIPConfig)
    text, image, scale = output.text_embeds, output.image_embeds, model.logit_scale.exp()
    found = info_nce(text, image, scale, torch.eye(5, dtype=torch.bool))
    torch.testing.assert_close(found, output.loss)
    torch.testing.assert_close(contrastive_loss(text, image, scale, None, torch.arange(5)), found)
    weights = [p for p in model.parameters() if p.requires_grad]
    ours = torch.autograd.grad(found, weights, retain_graph=True, allow_unused=True)
    theirs = torch.autograd.grad(output.loss, weights, allow_unused=True)
    torch.testing.assert_close(ours, theirs)


def test_sigmoid_loss_is_siglips():
    model, output = outputs_of(SiglipModel, SiglipConfig)
    text, image = output.text_embeds, output.image_embeds
    scale, bias = model.logit_scale.exp(), model.logit_bias
    found = sigmoid_loss(text, image, scale, bias, torch.eye(5, dtype=torch.bool))
    torch.testing.assert_close(found, output.loss)
    torch.testing.assert_close(contrastive_loss(text, image, scale, bias, torch.arange(5)), found)


def test_all_texts_of_an_image_are_its_positives():
    """Two samples of one image: both texts are right for it, and neither is pushed away."""
    text, image = embeddings(3)
    image = image.detach()
    image[1] = image[0]
    images = torch.tensor([4, 4, 9])
    found = contrastive_loss(text, image, 10.0, None, images)
    logits = 10.0 * text @ image.T
    by_text, by_image = logits.log_softmax(1), logits.log_softmax(0)
    expected = -(by_text[:2, :2].mean() * 2 + by_text[2, 2]) / 3
    expected = (expected - (by_image[:2, :2].mean() * 2 + by_image[2, 2]) / 3) / 2
    torch.testing.assert_close(found, expected)
    signs = torch.tensor([[1, 1, -1], [1, 1, -1], [-1, -1, 1]])
    expected = -F.logsigmoid(signs * (logits - 2)).sum() / 3
    torch.testing.assert_close(contrastive_loss(text, image, 10.0, -2.0, images), expected)


@pytest.mark.parametrize("bias", [None, -10.0])
def test_pairs_are_learned_and_chosen_by_recall(tmp_path, bias):
    """With CLIP's loss, and with SigLIP's for a model that has a bias."""
    data = write_data(tmp_path / "data")
    model = new_model(data, "clip_scratch")
    model.pair_logit = True  # for labels; its head, which is not trained here, is not asked
    own = model.pair_embeddings
    model.pair_embeddings = lambda tokens: (*own(tokens)[:3], bias)
    chosen = settings(
        objective="contrastive", select="recall", epochs=6, lr=3e-3, buckets=True,
        masked_words={"weight": 0},
    )  # fmt: skip
    path = tmp_path / "state.pt"
    history = loop.train(model, data, chosen, seed=0, device="cpu", state_path=path)
    assert history["train_loss"].iloc[-1] < 0.95 * history["train_loss"].iloc[0]
    assert validate(model, data, chosen, "cpu")["val_recall"] == history["val_recall"].max()
    assert set(history) == {"epoch", "train_loss", "val_loss", "val_recall"}
