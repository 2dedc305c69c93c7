"""METER behind the contract: order, relevance, logits, sizes and presets."""

import pytest
import torch
from meter_batches import logits_of, make_batch

from mmlens.explanation import METHODS
from mmlens.explanation.capture import capture
from mmlens.explanation.relevance import normalised
from mmlens.models import MODELS
from mmlens.models.base import Edge, Parallel
from mmlens.models.layers import Stem
from mmlens.models.meter_config import MeterConfig

torch.set_num_threads(1)

RUN = {"vocabulary_size": 30, "max_length": 12}


def new_model(**options):
    """A model in double precision with weights that all matter."""
    torch.manual_seed(0)
    model = MODELS.get("meter")(**{**RUN, "width": 8, "heads": 2, "image_size": 48, **options})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.double().eval()


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("image_tokens", ["patches", "encoded"])
def test_edges_are_in_the_order_of_the_forward_pass(image_tokens):
    model = new_model(image_tokens=image_tokens)
    text, image = ("text", "text"), ("image", "image")
    pair = [text, ("text", "image"), image, ("image", "text")]
    towers = ([image] * 2 if image_tokens == "patches" else []) + [text] * 2
    found = [
        (step.query, step.key) if isinstance(step, Edge) else [(e.query, e.key) for e in step.edges]
        for step in model.edges()
    ]
    assert found == [*towers, pair, pair]
    assert all(isinstance(step, Parallel) for step in model.edges()[-2:])


def expected_relevance(seen, before):
    """The relevance of METER written out.

    before : whether the crosses read the other stream as it was before its self-attention
    """
    sizes = {s: valid.shape[1] for s, valid in seen.layout.valid.items()}
    r = {(a, b): torch.zeros(3, sizes[a], sizes[b]).double() for a in sizes for b in sizes}
    for stream in sizes:
        r[stream, stream] += torch.eye(sizes[stream])

    def self_attention(r, m):
        return r | {(m.query, k): r[m.query, k] + m.relevance @ r[m.query, k] for k in sizes}

    def cross(r, m, other):
        s, q = m.query, m.key
        crossed = normalised(r[s, s]).mT @ m.relevance @ normalised(other[q, q])
        return {(s, q): r[s, q] + crossed, (s, s): r[s, s] + m.relevance @ other[q, s]}

    for step in seen.steps:
        if len(step) == 1:
            r = self_attention(r, step[0])
            continue
        text, by_text, image, by_image = step
        old, r = r, self_attention(self_attention(r, text), image)
        other = old if before else r
        r = r | cross(r, by_text, other) | cross(r, by_image, other)
    return {m: r["text", m][:, 0] + r["image", m][:, 0] for m in sizes}


def test_relevance_reads_the_other_stream_as_the_network_does():
    target = torch.tensor([True, False, True])
    seen = capture(new_model(), make_batch(), list("abc"), target)
    found = METHODS.get("relevance")(seen)
    right, wrong = (expected_relevance(seen, before) for before in (True, False))
    for modality, values in found.items():
        close(values, right[modality])
        assert not torch.allclose(values, wrong[modality])


@pytest.mark.parametrize("method", ["raw_attention", "rollout", "relevance", "saliency"])
@pytest.mark.parametrize("outputs", [1, 4])
def test_maps_are_finite_and_tell_tokens_apart(method, outputs):
    target = torch.tensor([True, False, True]) if outputs == 1 else torch.tensor([3, 0, 1])
    model = new_model(outputs=outputs)
    seen = capture(model, make_batch(), list("abc"), target)
    for modality, values in METHODS.get(method)(seen).items():
        content = seen.layout.content[modality]
        assert torch.isfinite(values).all()
        assert all(values[k][content[k]].unique().numel() > 1 for k in range(3))


def test_encoded_tokens_are_those_of_the_image_tower():
    patches, encoded = new_model(), new_model(image_tokens="encoded")
    batch = make_batch()
    close(logits_of(encoded, batch), logits_of(patches, batch))
    kept = torch.tensor([0, 2, 3]).expand(3, -1)
    states = []
    for model in (patches, encoded):
        tokens = model.embed(batch)
        with torch.no_grad():
            states.append(model({**tokens, "image": tokens["image"].gather(kept)}))
    assert not torch.allclose(*states)  # what is left still knows of the removed patches


def test_logits_are_the_difference_of_two_scores_or_all_of_them():
    batch = make_batch()
    model = new_model()
    hidden = model.encode(model.embed(batch))
    scores = model.network.classifier(model.network.fuse(hidden["text"], hidden["image"]))
    close(logits_of(model, batch).sigmoid(), scores.softmax(-1)[:, 1].detach())
    assert logits_of(new_model(outputs=5), batch).shape == (3, 5)


def test_words_that_padding_hides_do_not_count_and_positions_do():
    model, batch = new_model(), make_batch()
    before = logits_of(model, batch)
    batch.input_ids[0, 4:] = 9
    close(logits_of(model, batch), before)
    batch.input_ids[1, [2, 3]] = batch.input_ids[1, [3, 2]]
    assert not torch.allclose(logits_of(model, batch)[1], before[1])


def test_the_small_preset_starts_from_the_stem_and_the_published_one_from_the_convolution():
    model = new_model()
    assert isinstance(model.image_stem, Stem)
    assert model.masked_words
    assert model.network.visual.conv1 is None
    names = list(model.state_dict())
    with torch.device("meta"):
        model = MODELS.get("meter")(50265, 50, preset="published")
    assert model.network.config == MeterConfig()
    assert model.image_stem is None
    assert model.grid == (18, 18)
    assert "network.vit_model.visual.stem.0.weight" in names
    assert "network.vit_model.visual.conv1.weight" in model.state_dict()


def test_layers_can_be_computed_again():
    model, batch = new_model().train(), make_batch()
    gradients = []
    for _ in range(2):
        model.zero_grad()
        model(model.embed(batch)).sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        model.checkpoint_gradients()
    for first, second in zip(*gradients, strict=True):
        close(second, first)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"preset": "large"}, "preset: found 'large', expected small or published"),
        ({"image_tokens": "all"}, "image_tokens: found 'all', expected patches or encoded"),
        ({"sizes": {"hiden_size": 3}}, "meter: unknown key 'hiden_size': did you mean hidden_size"),
        ({"sizes": {"hidden_size": "8"}}, "hidden_size: found '8', expected a value such as 768"),
        ({"sizes": {"hidden_size": 9}}, r"hidden_size: found 9, expected a multiple of num_heads"),
        ({"sizes": {"num_top_layer": 0}}, "num_top_layer: found 0, expected at least 1"),
        ({"sizes": {"vision_layers": 1}}, "vision_layers: found 1, expected at least 2"),
        ({"sizes": {"patch_embedding": "fft"}}, "found 'fft', expected conv, stem"),
        ({"sizes": {"patch_size": 8}}, "patch_size: found 8, expected 16 for the stem"),
        ({"image_size": 50}, "image_size: found 50, expected a multiple of patch_size"),
        ({"sizes": {"vocab_size": 20}}, "vocab_size: found 20, expected at least 30"),
        (
            {"sizes": {"text_max_position_embeddings": 13}},
            "text_max_position_embeddings: found 13, expected at least 14, for texts of 12",
        ),
    ],
)
def test_a_model_that_does_not_fit_the_run_is_refused(options, expected):
    with pytest.raises(ValueError, match=expected):
        new_model(**options)


def test_one_cross_modal_pair_has_layers_for_grad_cam():
    model = new_model(sizes={"num_top_layer": 1})
    seen = capture(model, make_batch(), list("abc"), torch.tensor([True, False, True]))
    assert all(torch.isfinite(values).all() for values in METHODS.get("grad_cam")(seen).values())
    assert all(gradient.abs().sum() > 0 for _, gradient in seen.features.values())
