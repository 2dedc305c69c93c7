"""What text and image promise as models from scratch: tokens, padding, removal, training."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from unimodal_checkpoints import CONFIGS

from mmlens.models.base import Tokens
from mmlens.models.image import Image
from mmlens.models.inputs import Batch
from mmlens.models.text import Text
from mmlens.weights import load_weights, save_weights

torch.set_num_threads(1)

WORDS = 30
everything = pytest.mark.parametrize("kind", [*sorted(CONFIGS), "vit", "resnet"])


def close(found, expected, tolerance=1e-5):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@torch.no_grad()
def logits_of(model, batch):
    return model(model.embed(batch))


def new_model(kind, **options):
    """A small model from scratch in double precision, with weights that all matter."""
    torch.manual_seed(0)
    options |= {"width": 8, "heads": 2, "image_size": 48, "architecture": kind}
    model = (Text if kind in CONFIGS else Image)(WORDS, 12, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.double().eval()


def make_batch(words=4, padding=0, dtype=torch.float64):
    """Three samples; what stands in the padding must not matter."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, WORDS, (3, 6), generator=generator)[:, : words + 2]
    ids[:, 0], ids[:, -1] = 2, 3
    shown = F.pad(torch.ones_like(ids, dtype=torch.bool), (0, padding))
    ids = F.pad(ids, (0, padding), value=7)
    pixels = torch.randn(3, 3, 48, 48, generator=generator, dtype=dtype)
    return Batch(ids, shown, shown & (ids > 4), pixels, torch.arange(3))


def rows_of(batch, rows):
    parts = ("input_ids", "text_valid", "text_content", "image")
    own = {part: getattr(batch, part)[rows] for part in parts}
    return replace(batch, **own, image_rows=torch.arange(len(rows)))


@everything
@pytest.mark.parametrize("outputs", [1, 3])
def test_padding_and_batches_change_nothing(kind, outputs):
    model, batch = new_model(kind, outputs=outputs), make_batch()
    logits = logits_of(model, batch)
    assert logits.shape == ((3,) if outputs == 1 else (3, 3))
    close(logits_of(model, make_batch(padding=5)), logits, 1e-9)
    for k in range(3):
        close(logits_of(model, rows_of(batch, [k])), logits[[k]], 1e-9)
    other = make_batch(words=3)
    assert torch.allclose(logits_of(model, other), logits) == (kind not in CONFIGS)
    other = replace(batch, image=batch.image * 2)
    assert torch.allclose(logits_of(model, other), logits) == (kind in CONFIGS)


@everything
def test_a_removed_token_is_as_one_that_is_masked(kind):
    model = new_model(kind)
    ((modality, own),) = model.embed(make_batch(padding=2)).items()
    content = own.content[0].nonzero()[:, 0]
    for gone in (content[1].item(), content[-1].item()):
        kept = torch.tensor([k for k in range(own.valid.shape[1]) if k != gone])
        hidden = own.valid.clone()
        hidden[:, gone] = False
        with torch.no_grad():
            gathered = model({modality: own.gather(kept.expand(3, -1))})
            masked = model({modality: replace(own, valid=hidden)})
            everything = model({modality: own})
        close(gathered, masked, 1e-9)
        assert not torch.allclose(gathered, everything)


@everything
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_all_tokens_may_be_removed_and_half_precision_is_finite(kind, implementation):
    model = new_model(kind).float()
    model.use_attention(implementation)
    batch = make_batch(padding=3, dtype=torch.float32)
    with torch.no_grad():
        ((modality, own),) = model.embed(batch).items()
        special = (own.valid & ~own.content)[0].nonzero()[:, 0]
        assert model({modality: own.gather(special.expand(3, -1))}).isfinite().all()
        with torch.autocast("cpu", torch.bfloat16):
            half = model(model.embed(batch)).float()
    close(half, logits_of(model, batch), 0.1)


def test_a_causal_network_reads_nothing_behind_a_token():
    model = new_model("gpt2")
    tokens = model.embed(make_batch())["text"]
    values = tokens.values.clone()
    values[:, 3:] = 0
    changed = Tokens(values, tokens.valid, tokens.content)
    states = [model.encode({"text": t})["text"] for t in (tokens, changed)]
    close(states[0][:, :3], states[1][:, :3], 1e-12)
    assert not torch.allclose(states[0][:, 3:], states[1][:, 3:])


@everything
@pytest.mark.parametrize("outputs", [1, 3])
def test_twenty_steps_learn_and_the_saved_weights_predict_the_same(kind, outputs, tmp_path):
    model = new_model(kind, outputs=outputs).float().train()
    batch = make_batch(dtype=torch.float32)
    labels = torch.tensor([1.0, 0.0, 1.0]) if outputs == 1 else torch.eye(3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    losses = []
    for _ in range(20):
        loss = F.binary_cross_entropy_with_logits(model(model.embed(batch)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    save_weights(tmp_path / "model.safetensors", model.eval())
    again = new_model(kind, outputs=outputs).float()
    load_weights(tmp_path / "model.safetensors", again)
    assert torch.equal(logits_of(model, batch), logits_of(again, batch))


@pytest.mark.parametrize("kind", ["bert", "gpt2", "vit"])
def test_layers_can_be_computed_again(kind):
    batch, gradients = make_batch(), []
    for again in (False, True):
        model = new_model(kind).train()
        if again:
            model.checkpoint_gradients()
        model(model.embed(batch)).sum().backward()
        gradients.append(next(p.grad for p in model.parameters() if p.grad is not None))
    close(*gradients, 1e-9)
