"""What all released models of words and pixels promise."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mmlens.models import MODELS
from mmlens.models.inputs import Batch
from mmlens.weights import load_weights, save_weights

torch.set_num_threads(1)

NAMES = ("meter", "vilt", "clip", "siglip", "blip", "blip_contrastive")
ONE_NUMBER = ("blip_contrastive",)  # which cannot learn several answers
UNMASKED = ("blip", "blip_contrastive")  # whose stock image towers take no mask
named = pytest.mark.parametrize("name", NAMES)
tasks = pytest.mark.parametrize(
    ("name", "outputs"), [(n, k) for n in NAMES for k in (1, 3) if k == 1 or n not in ONE_NUMBER]
)
PER_SAMPLE = ("input_ids", "text_valid", "text_content", "image")
CLS, SEP, WORDS = 2, 3, 30


def new_model(name, **options):
    """A small model from scratch in double precision, with weights that all matter."""
    torch.manual_seed(0)
    model = MODELS.get(name)(
        vocabulary_size=WORDS, max_length=12, width=8, heads=2, image_size=48, **options
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.double().eval()


def make_batch(words=4, padding=0, dtype=torch.float64):
    """Three samples; what stands in the padding must not matter."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, WORDS, (3, 6), generator=generator)[:, : words + 2]
    ids[:, 0], ids[:, -1] = CLS, SEP
    shown = F.pad(torch.ones_like(ids, dtype=torch.bool), (0, padding))
    ids = F.pad(ids, (0, padding), value=7)
    content = shown & (ids > 4)
    pixels = torch.randn(3, 3, 48, 48, generator=generator, dtype=dtype)
    return Batch(ids, shown, content, pixels, torch.arange(3))


@torch.no_grad()
def logits_of(model, batch):
    return model(model.embed(batch))


def close(found, expected, tolerance=1e-9):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@tasks
def test_padding_and_batches_change_nothing(name, outputs):
    model, batch = new_model(name, outputs=outputs), make_batch()
    logits = logits_of(model, batch)
    assert logits.shape == ((3,) if outputs == 1 else (3, 3))
    close(logits_of(model, make_batch(padding=5)), logits)
    for k in range(3):
        own = {part: getattr(batch, part)[[k]] for part in PER_SAMPLE}
        close(logits_of(model, replace(batch, **own, image_rows=torch.arange(1))), logits[[k]])
    assert not torch.allclose(logits_of(model, make_batch(words=3)), logits)
    assert not torch.allclose(logits_of(model, replace(batch, image=batch.image + 1)), logits)


@named
def test_samples_may_share_an_image(name):
    model, batch = new_model(name), make_batch()
    shared = replace(batch, image_rows=torch.tensor([2, 0, 2]))
    close(logits_of(model, shared), logits_of(model, replace(batch, image=batch.image[[2, 0, 2]])))


@pytest.mark.parametrize(
    ("name", "modality"),
    [(n, m) for n in NAMES for m in ("text", "image") if m == "text" or n not in UNMASKED],
)
def test_a_removed_token_is_as_one_that_is_masked(name, modality):
    model = new_model(name)
    tokens = model.embed(make_batch())
    own = tokens[modality]
    last = own.content[0].nonzero()[-1].item()
    kept = torch.tensor([k for k in range(own.valid.shape[1]) if k != last])
    hidden = own.valid.clone()
    hidden[:, last] = False
    with torch.no_grad():
        gathered = model({**tokens, modality: own.gather(kept.expand(3, -1))})
        masked = model({**tokens, modality: replace(own, valid=hidden)})
        everything = model(tokens)
    close(gathered, masked)
    assert not torch.allclose(gathered, everything)


@tasks
def test_twenty_steps_learn_and_the_saved_weights_predict_the_same(name, outputs, tmp_path):
    model = new_model(name, outputs=outputs).float()
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
    assert losses[-1] < 0.85 * losses[0]
    save_weights(tmp_path / "model.safetensors", model)
    again = new_model(name, outputs=outputs).float()
    load_weights(tmp_path / "model.safetensors", again)
    assert torch.equal(logits_of(model.eval(), batch), logits_of(again.eval(), batch))


@named
def test_layers_that_are_computed_again_give_the_same_gradients(name):
    found = []
    for again in (False, True):
        model = new_model(name).train()
        if again:
            model.checkpoint_gradients()
        calls = []
        heard = [m for m in model.modules() if type(m).__name__.endswith(("Attention", "Block"))]
        for module in heard:
            module.register_forward_hook(lambda *_, c=calls: c.append(1))
        model(model.embed(make_batch())).sum().backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        found.append((gradients, len(calls)))
    (plain, once), (recomputed, twice) = found
    assert plain.keys() == recomputed.keys()
    for key, gradient in plain.items():
        close(recomputed[key], gradient)
    assert twice > once > 0
