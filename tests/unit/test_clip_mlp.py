"""clip_mlp: a head on a frozen encoder, which is trained on vectors that are computed once."""

from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from stock_checkpoints import save_blip, save_clip, save_siglip
from stock_samples import everything, read_stock, stock_pixels
from training_data import settings
from transformers import AutoTokenizer

from mmlens.explanation.capture import capture
from mmlens.explanation.explain import explain
from mmlens.models.released import fresh_weights
from mmlens.perturbation.engine import perturb
from mmlens.table import DataError
from mmlens.training.frozen import trained_part
from mmlens.training.loop import train
from mmlens.training.predict import predict
from mmlens.weights import load_weights, save_weights

torch.set_num_threads(1)
# Some texts and images occur more than once.
TEXTS = ["ab c de", "f", "gh abc d", "e f g", "ab c de", "i j k", "f", "l"]
SPLITS = ["train", "val", "test", "train", "train", "val", "train", "train"]
KINDS = {"text": {"reads": "text"}, "image": {"reads": "image"}, "both": {}}
KINDS |= {"align": {"fusion": "align", "hidden": 12}}
METHOD_NAMES = ("raw_attention", "rollout", "relevance", "grad_cam", "saliency")
kinds = pytest.mark.parametrize("kind", KINDS)
SAVERS = {
    "clip": save_clip,
    "siglip": partial(save_siglip, words=sorted({word for text in TEXTS for word in text.split()})),
}
encoders = pytest.mark.parametrize("encoder", SAVERS)


def build(folder, kind="both", seed=0, **options):
    torch.manual_seed(seed)
    model, data = read_stock("clip_mlp", folder, TEXTS, **KINDS[kind], **options)
    data.samples["split"] = SPLITS
    return model, data


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def logits_of(model, data):
    with torch.no_grad():
        return model.eval()(everything(model, data))


@kinds
def test_the_head_reads_what_the_stock_class_says(tmp_path, kind):
    stock = save_clip(tmp_path)
    model, data = build(tmp_path, kind)
    words = AutoTokenizer.from_pretrained(tmp_path)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        if kind == "align":
            said = {
                "text": stock.text_model(**words).pooler_output,
                "image": stock.vision_model(stock_pixels(tmp_path, data.samples)).pooler_output,
            }
            parts = [F.normalize(model.head.projections[m](said[m]), dim=-1) for m in said]
            expected = model.head.layers(parts[0] * parts[1])[:, 0]
        else:
            said = {
                "text": stock.get_text_features(**words).pooler_output,
                "image": stock.get_image_features(
                    stock_pixels(tmp_path, data.samples)
                ).pooler_output,
            }
            read = torch.cat([said[m] for m in model.modalities], -1)
            expected = model.head.layers(read)[:, 0]
    close(logits_of(model, data), expected)
    assert expected.std() > 1e-4


@kinds
@encoders
def test_vectors_that_were_computed_once_give_the_same_logits(tmp_path, kind, encoder):
    SAVERS[encoder](tmp_path)
    model, data = build(tmp_path, kind)
    rows = torch.arange(len(data))
    part, vectors = trained_part(model, data, "cpu")
    close(predict(part, vectors, rows, "cpu"), predict(model, data, rows, "cpu"))
    assert {m: len(v) for m, v in vectors.vectors.items()} == {
        m: {"text": len(set(TEXTS)), "image": len(TEXTS)}[m] for m in model.modalities
    }


def test_other_models_are_trained_as_they_are(tmp_path):
    save_clip(tmp_path)
    model, data = read_stock("clip", tmp_path, TEXTS)
    assert trained_part(model, data, "cpu") == (model, data)


@kinds
def test_training_runs_the_encoder_once_and_ends_as_with_the_encoder_in_each_step(tmp_path, kind):
    save_clip(tmp_path)
    own = settings(epochs=4, batch_size=2, lr=1e-3, optimizer="adam", warmup=0, schedule="constant")
    found = []
    for once in (True, False):
        model, data = build(tmp_path, kind)
        calls = count_calls(model)
        before = {k: v.clone() for k, v in model.state_dict().items()}
        part, read = trained_part(model, data, "cpu") if once else (model, data)
        history = train(part, read, own, seed=0, device="cpu", state_path=tmp_path / f"{once}.pt")
        if once:
            # All texts in one batch, and all images.
            assert calls == dict.fromkeys(model.modalities, 1)
        else:
            assert min(calls.values()) > own["epochs"]
        changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
        assert changed == {k for k in before if k.startswith("head.")}
        assert history.attrs["trainable"] == sum(p.numel() for p in model.head.parameters())
        found.append((logits_of(model, data), history["train_loss"].tolist()))
    close(found[0][0], found[1][0])
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-4)


def count_calls(model):
    """{modality: number of its tower's forward passes}, counted on."""
    calls = Counter()
    for modality, tower in model.encoder.towers.items():
        tower.encoder.register_forward_hook(lambda *_, m=modality: calls.update([m]))
    return calls


@kinds
@encoders
def test_twenty_steps_learn_and_the_saved_weights_predict_the_same(tmp_path, kind, encoder):
    SAVERS[encoder](tmp_path)
    model, data = build(tmp_path, kind)
    part, read = trained_part(model, data, "cpu")
    rows = torch.arange(6)
    labels = data.targets(rows)
    optimizer = torch.optim.Adam(part.parameters(), lr=0.01)
    losses = []
    for _ in range(20):
        loss = F.binary_cross_entropy_with_logits(part(part.embed(read.batch(rows))), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0]
    save_weights(tmp_path / "trained.safetensors", model)
    again, _ = build(tmp_path, kind, seed=1)
    assert not torch.equal(logits_of(model, data), logits_of(again, data))
    load_weights(tmp_path / "trained.safetensors", again)
    assert torch.equal(logits_of(model, data), logits_of(again, data))


def test_only_the_towers_that_are_read_are_kept(tmp_path):
    save_clip(tmp_path)
    text, _ = build(tmp_path, "text")
    assert not any("vision_model" in name for name in text.state_dict())
    assert text.encoder.network.text_model is not None
    assert {edge.query for edge in text.edges()} == {"text"}
    image, _ = build(tmp_path, "image")
    assert not any("text_model" in name for name in image.state_dict())


def test_the_encoder_stays_as_it_is_in_training(tmp_path):
    save_clip(tmp_path)
    model, _ = build(tmp_path, "align")
    model.train()
    assert model.head.training
    assert not model.encoder.training
    assert not any(p.requires_grad for p in model.encoder.parameters())


@kinds
@encoders
def test_explanations_go_through_the_encoder(tmp_path, kind, encoder):
    SAVERS[encoder](tmp_path)
    model, data = build(tmp_path, kind)
    batch = data.batch(torch.arange(4))
    seen = capture(model, batch, list("abcd"), torch.ones(4).bool())
    assert set(seen.embeddings) == set(model.modalities)
    assert all(gradient.abs().sum() > 0 for _, gradient in seen.embeddings.values())
    assert not any(p.requires_grad for p in model.encoder.parameters())
    if "image" in model.modalities:
        assert seen.image[1].abs().sum() > 0
    else:
        assert seen.image is None
    target = torch.ones(len(data), dtype=torch.bool)
    frame = explain(model, data, target, methods=METHOD_NAMES, draws=1, batch_size=8, device="cpu")
    assert np.isfinite([v for row in frame.itertuples() for v in [*row.image, *row.text]]).all()
    # A map that is cut at 0 may be 0 everywhere for one class.
    assert set(frame[frame["flags"] != ""]["method"]) <= {"grad_cam"}
    with torch.no_grad():
        tokens = everything(model, data)
    scores = perturb(
        model, tokens, frame, data.samples, steps=(0, 0.5, 1), protocol="default", batch_size=8
    )
    assert set(scores["modality"]) == set(model.modalities)
    assert np.isfinite(scores["logit"]).all()


def test_its_head_is_fresh(tmp_path):
    save_clip(tmp_path)
    model, data = build(tmp_path)
    unread = fresh_weights(model, data.batch(torch.arange(2)))
    assert unread == [f"head.layers.{k}.{part}" for k in (0, 2) for part in ("weight", "bias")]


def test_widths_are_as_published(tmp_path):
    save_clip(tmp_path)
    assert build(tmp_path)[0].head.layers[0].out_features == 500
    model, _ = read_stock("clip_mlp", tmp_path, TEXTS, fusion="align")
    projected = [part[0].out_features for part in model.head.projections.values()]
    assert projected == [1024, 1024]


def test_what_does_not_fit_is_named(tmp_path):
    with pytest.raises(DataError, match="clip_mlp: no weights; expected a folder of CLIP or"):
        read_stock("clip_mlp", None, TEXTS, weights=None)
    save_blip(tmp_path)
    with pytest.raises(DataError, match="model_type: found blip; expected a folder of CLIP or"):
        build(tmp_path)
    save_clip(tmp_path)
    with pytest.raises(ValueError, match="reads: found 'sound', expected text, image, both"):
        read_stock("clip_mlp", tmp_path, TEXTS, reads="sound")
    with pytest.raises(ValueError, match="align, which needs both modalities, but reads is text"):
        read_stock("clip_mlp", tmp_path, TEXTS, reads="text", fusion="align")


def test_layers_of_a_head_cannot_be_computed_again(tmp_path):
    save_clip(tmp_path)
    part, _ = trained_part(*build(tmp_path), "cpu")
    with pytest.raises(ValueError, match="clip_mlp has no layers that can be computed again"):
        part.checkpoint_gradients()
