"""Spectral methods and LeGrad: their formulas, their symmetries, and where they are undefined."""

import json
from dataclasses import replace

import pytest
import torch
from test_explanation import (
    COUNT,
    NAMES,
    QUICK,
    TARGET,
    WORDS_PER_TEXT,
    captured,
    close,
    encoded,
    find,
    make_batch,
    make_model,
)

from mmlens.config import check_arguments
from mmlens.explanation import METHODS
from mmlens.explanation.capture import capture, eager_attention, recorded, target_logits
from mmlens.explanation.explain import explain
from mmlens.explanation.layers import informed_layers, own_layers
from mmlens.explanation.readouts import standing_in
from mmlens.explanation.spectral import FEWEST, GAP, fiedler, minority
from mmlens.models import build_model

ONE_STREAM = ("text_only", "image_only", "vilt_scratch", "vilt", "visual_bert", "text", "text_gpt2")
TWO_TOWERS = ("clip_scratch", "clip", "siglip", "blip_contrastive")
SPECTRAL = ("dsmi", "dsmi_grad", "dsmi_grad_attn")


@pytest.mark.parametrize("name", ONE_STREAM + TWO_TOWERS)
def test_transformer_attribution_is_relevance_without_cross_attention(name):
    seen = captured(make_model(name))
    found, expected = (METHODS.get(m)(seen) for m in ("transformer_attribution", "relevance"))
    for modality, values in expected.items():
        close(found[modality], values)


@pytest.mark.parametrize("name", ["blip_scratch", "vilbert_scratch", "meter", "lxmert"])
def test_cross_attention_is_no_part_of_transformer_attribution(name):
    seen = captured(make_model(name))
    found, other = (METHODS.get(m)(seen) for m in ("transformer_attribution", "relevance"))
    assert not all(torch.allclose(found[m], other[m]) for m in found)
    for modality, span in seen.layout.spans.items():
        r = torch.eye(seen.layout.valid[span.stream].shape[1]).double()
        for m in seen.maps:
            if m.query == m.key == span.stream:
                r = r + m.relevance @ r
        if span.stream in dict(seen.layout.readouts):
            close(found[modality], r[:, 0])
        else:  # the image of BLIP, which its words read
            rest = r - torch.eye(r.shape[-1])
            rest = (rest / rest.sum(-1, keepdim=True)).nan_to_num() + torch.eye(r.shape[-1])
            close(found[modality], (seen.maps_between("text", "image")[-1].relevance @ rest)[:, 0])


@pytest.mark.parametrize("name", NAMES)
def test_every_modality_has_layers_with_its_features_and_their_self_attention(name):
    model = make_model(name)
    layers = informed_layers(model, own_layers(model))
    seen = captured(model)
    assert set(seen.layers) == set(model.modalities)
    for modality, span in seen.layout.spans.items():
        assert len(seen.layers[modality]) == len(layers[span.stream]) > 0
        for features, m in seen.layers[modality]:
            assert features.shape[:2] == seen.layout.content[modality].shape
            assert (m.query, m.key) == (span.stream, span.stream)
            assert not features.requires_grad
    exchanges = {"vilbert_scratch": 2, "meter": 2, "lxmert": 2, "blip_scratch": 3, "vilbert": 2}
    if name in exchanges:
        assert len(layers["text"]) == exchanges[name]


def graphs(name="vilt_scratch", modality="image"):
    seen = captured(make_model(name))
    return seen, seen.layers[modality][-1][0], seen.layout.content[modality]


def dense_fiedler(x):
    """|u| of one graph by the generalised problem, D^-1 (D - W), without the symmetric form."""
    w = torch.nn.functional.normalize(x, dim=-1)
    w = (w @ w.T).clamp(min=0)
    d = w.sum(1)
    values, vectors = torch.linalg.eig((torch.diag(d) - w) / d[:, None])
    order = values.real.argsort()
    u = vectors.real[:, order[1]]
    return (u / (u * d * u).sum().sqrt()).abs(), values.real[order]


def test_a_fiedler_vector_solves_the_generalised_problem():
    _, features, content = graphs()
    found = fiedler(features, content)
    for k in range(COUNT):
        expected, values = dense_fiedler(features[k][content[k]])
        close(found.vector[k][content[k]].abs(), expected, 1e-6, 1e-8)
        gaps = values.diff()[:2]
        close(found.eigengap[k], gaps.min(), 1e-6, 1e-8)
    assert (found.vector[~content] == 0).all()


def test_weights_are_attention_among_content_tokens_summed_over_layers():
    seen, _, content = graphs()
    u = [fiedler(h, content).vector.abs() for h, _ in seen.layers["image"]]
    span = seen.layout.spans["image"].slice
    for method, key in (("dsmi_grad", "sensitivity"), ("dsmi_grad_attn", "relevance")):
        weighed = [
            torch.einsum("bqk,bk->bq", getattr(m, key)[:, span, span], v) * content
            for (_, m), v in zip(seen.layers["image"], u, strict=True)
        ]
        first, every = (METHODS.get(method)(seen, layers=n)["image"] for n in ("first", "all"))
        close(first, weighed[0])
        close(every, sum(weighed))
        close(METHODS.get(method)(seen)["image"], first)
        assert not torch.allclose(first, every)


def test_the_order_of_tokens_does_not_change_a_vector():
    _, features, content = graphs()
    order = torch.randperm(features.shape[1], generator=torch.Generator().manual_seed(0))
    found, moved = fiedler(features, content), fiedler(features[:, order], content[:, order])
    close(moved.vector.abs(), found.vector.abs()[:, order], 1e-7, 1e-9)
    turned = minority(found.vector, content)
    close(minority(moved.vector, content[:, order]), turned[:, order], 1e-7, 1e-9)


def test_padding_and_the_rest_of_the_batch_do_not_change_a_vector():
    _, features, content = graphs()
    found = fiedler(features, content)
    more = torch.cat([features, 1e3 * torch.ones_like(features)], 1)
    padded = fiedler(more, torch.cat([content, torch.zeros_like(content)], 1))
    close(padded.vector[:, : content.shape[1]].abs(), found.vector.abs())
    close(fiedler(features[2:3], content[2:3]).vector.abs(), found.vector[2:3].abs())


def test_the_smaller_part_is_positive():
    content = torch.tensor([[True] * 5 + [False]])
    one = torch.tensor([[0.3, 0.2, 0.1, -0.9, 0.4, 0.0]])
    assert torch.equal(minority(one, content), -one)
    assert torch.equal(minority(-one, content), -one)
    halves = torch.tensor([[0.3, 0.2, -0.5, -0.4, 0.0, 0.0]])
    four = torch.tensor([[True] * 4 + [False] * 2])
    assert torch.equal(minority(halves, four), -halves)
    assert torch.equal(minority(-halves, four), -halves)


@pytest.mark.parametrize("name", ["vilt_scratch", "clip_scratch", "vilbert_scratch", "meter"])
def test_the_order_of_patches_does_not_change_a_map(name, monkeypatch):
    """Patches know their places from their embeddings, and with these keep their relevance."""
    model = make_model(name)
    before = captured(model)
    order = torch.cat([torch.zeros(1).long(), 1 + torch.tensor([4, 0, 8, 2, 1, 7, 3, 6, 5])])
    embed = model.embed_image
    moved = order.expand(COUNT, -1)
    monkeypatch.setattr(model, "embed_image", lambda batch: embed(batch).gather(moved))
    after = captured(model)
    close(after.logits, before.logits)
    places = ("random", "centre_prior", "token_position", "shapley")  # of which orders are drawn
    pixels = ("saliency", "smooth_grad", "patch_variance")
    for name in (name for name in METHODS.names() if name not in (*places, *pixels)):
        method, options = METHODS.get(name), QUICK.get(name, {})
        expected, found = method(before, **options), method(after, **options)
        close(found["text"], expected["text"], 1e-7, 1e-10)
        close(found["image"], expected["image"][:, order], 1e-7, 1e-10)


def corners(*groups):
    """Features of orthogonal groups of equal tokens, (1, N, number of groups)."""
    kinds = torch.tensor([k for k, size in enumerate(groups) for _ in range(size)])
    return torch.nn.functional.one_hot(kinds, len(groups))[None].double()


@pytest.mark.parametrize(
    ("features", "flag", "components"),
    [
        (corners(3, 3), "2 components", 2),
        (corners(2, 2, 4), "3 components", 3),
        (corners(6), "eigengap", 1),
        (torch.randn(1, 3, 4), "3 tokens", 1),
        (torch.randn(1, 1, 4), "1 tokens", 1),
        (torch.full((1, 5, 4), torch.nan), "features not finite", 0),
    ],
)
def test_a_graph_without_a_fiedler_vector_is_flagged(features, flag, components):
    content = torch.ones(features.shape[:2], dtype=torch.bool)
    found = fiedler(features.abs(), content)
    assert found.flags == [flag]
    assert found.components.item() == components
    assert (found.vector == 0).all()
    solved = features.shape[1] >= FEWEST and components > 0
    assert (found.eigengap < GAP if solved else found.eigengap.isnan()).all()


def test_texts_that_are_too_short_are_flagged_and_the_others_are_not():
    seen = captured(make_model("text_only"))
    for name in SPECTRAL:
        maps = METHODS.get(name)(seen)
        expected = [f"{n} tokens" if n < FEWEST else "" for n in WORDS_PER_TEXT]
        assert maps.flags == {"text": expected}
        for k, flag in enumerate(expected):
            assert (maps["text"][k] == 0).all() == bool(flag)
        assert (maps["text"][~seen.layout.content["text"]] == 0).all()


def test_legrad_is_the_mean_positive_gradient_on_a_token():
    seen = captured(make_model("text_only"))
    found = METHODS.get("legrad")(seen)["text"]
    for k, n in enumerate(WORDS_PER_TEXT):
        expected = 0
        for m in seen.maps:
            own = m.layer_sensitivity[k, : n + 2, : n + 2]
            expected = expected + own.mean(0) / len(seen.maps)
        close(found[k, : n + 2], expected)
    last = seen.maps[-1]
    close(last.sensitivity, last.gradient.clamp(min=0).mean(1))
    assert last.layer_sensitivity is last.sensitivity


def test_a_layer_is_read_out_by_the_end_of_the_model_with_the_other_stream_as_it_ends():
    model = make_model("clip_scratch")
    seen, blocks = captured(model), model.towers["image"]
    leaf = blocks[0].attention.probabilities
    tokens = model.embed(make_batch())
    with eager_attention(model), recorded([blocks[0], leaf]) as outputs:
        hidden = model.encode(tokens)
    hidden["image"] = model.norms["image"](outputs[blocks[0]][0])
    score = target_logits(model.classify(hidden), TARGET).sum()
    (gradient,) = torch.autograd.grad(score, outputs[leaf][0])
    (found,) = (m for (m,) in seen.steps[3:4])
    assert (found.query, found.key) == ("image", "image")
    close(found.layer_sensitivity, gradient.relu().mean(1))
    assert not torch.allclose(found.layer_sensitivity, found.sensitivity)
    assert (found.layer_sensitivity[:, 1:] == 0).all()  # its end reads the class token alone
    plain = captured(model, readouts=False).steps[3][0]
    close(plain.sensitivity, found.sensitivity)
    assert plain.layer_sensitivity is plain.sensitivity


# Maps with a readout of their own: of all but the last of a stream's layers that know of the other.
READ_OUT = {
    "text_only": [("text", "text")],
    "siglip": [("text", "text")] * 2 + [("image", "image")] * 2,
    "blip_scratch": [("text", "text"), ("text", "image")] * 2,
    "vilbert_scratch": [("text", "image"), ("image", "text"), ("text", "text"), ("image", "image")],
    "meter": [("text", "text"), ("text", "image"), ("image", "image"), ("image", "text")],
    "lxmert": [("text", "image"), ("text", "text")],
}


@pytest.mark.parametrize("name", ["meter", "vilbert_scratch"])
def test_of_streams_that_read_each_other_only_the_readout_of_the_own_one_counts(name):
    """Each is read at its first token; what the others went on to read of it is not its readout."""
    read_out = [m for m in captured(make_model(name)).maps
                if m.layer_sensitivity is not m.sensitivity]  # fmt: skip
    assert read_out
    last = {}  # after the last map of a stream's layer nothing mixes its tokens
    for m in read_out:
        last[m.query] = m
    for m in last.values():
        assert m.layer_sensitivity[:, 0].abs().sum() > 0
        assert (m.layer_sensitivity[:, 1:] == 0).all()


@pytest.mark.parametrize("name", READ_OUT)
def test_maps_of_layers_that_the_classifier_can_read_have_a_readout_of_their_own(name):
    model = make_model(name)
    seen = captured(model)
    own = [(m.query, m.key) for m in seen.maps if m.layer_sensitivity is not m.sensitivity]
    assert own == READ_OUT[name]
    assert all("forward" not in vars(module) for module in model.modules())


def test_an_exception_leaves_no_module_without_its_forward():
    module = torch.nn.Linear(2, 2)

    def interrupted():
        with standing_in({module: None}):
            assert module(torch.zeros(2)) is None
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        interrupted()
    assert module(torch.zeros(2)).shape == (2,)


@pytest.mark.parametrize("name", [*SPECTRAL, "legrad", "transformer_attribution"])
def test_a_model_without_attention_is_told_why(name):
    seen = replace(captured(make_model("image_only")), steps=[], layers={"image": []})
    with pytest.raises(ValueError, match=r"has none|no self-attention among its image tokens"):
        METHODS.get(name)(seen)


@pytest.mark.parametrize("name", NAMES)
def test_maps_depend_on_the_class_where_they_say_so(name):
    model, batch = make_model(name), make_batch(frozen=find(name)[0].frozen)
    ids = list(map(str, range(COUNT)))
    both = [capture(model, batch, ids, target) for target in (TARGET, ~TARGET)]
    for method in (METHODS.get(n) for n in (*SPECTRAL, "legrad", "transformer_attribution")):
        one, other = (method(seen) for seen in both)
        defined = any(v.any() for v in one.values())
        same = all(torch.equal(one[m], other[m]) for m in one)
        assert same != (method.class_specific and defined), method.name


@pytest.mark.parametrize("name", NAMES)
def test_every_choice_of_an_argument_gives_maps_of_every_model(name):
    seen = captured(make_model(name))
    for method in METHODS.names():
        for argument, schema in METHODS.attribute(method, "arguments", {}).items():
            if "type" in schema and schema["type"] != "boolean":
                continue  # numbers, of which there is no list
            default, *others = schema.get("enum", [True, False])
            function = METHODS.get(method)
            plain, told = function(seen), function(seen, **{argument: default})
            assert all(torch.equal(plain[m], told[m]) for m in seen.layout.spans)
            for choice in others:
                maps = function(seen, **{argument: choice})
                assert set(maps) == set(seen.layout.spans)
                assert all(values.isfinite().all() for values in maps.values())


def test_the_published_relevance_walks_one_map_after_the_other_and_reads_own_rows():
    """The update of METER's published code written out, without normalisation."""
    seen = captured(make_model("vilbert_scratch"))
    found = METHODS.get("relevance")(seen, preset="published")
    sizes = {s: valid.shape[1] for s, valid in seen.layout.valid.items()}
    r = {(a, b): torch.zeros(COUNT, sizes[a], sizes[b]).double() for a in sizes for b in sizes}
    for stream in sizes:
        r[stream, stream] += torch.eye(sizes[stream])
    for step in seen.steps:
        for m in sorted(step, key=lambda m: m.query):  # the image before the text
            s, q, e = m.query, m.key, m.relevance
            if s == q:
                r |= {(s, k): r[s, k] + e @ r[s, k] for k in sizes}
            else:
                r |= {(s, q): r[s, q] + r[s, s].mT @ e @ r[q, q], (s, s): r[s, s] + e @ r[q, s]}
    for modality in sizes:
        close(found[modality], r[modality, modality][:, 0])


def test_flags_and_facts_reach_the_table_and_arguments_the_method(tmp_path):
    data = encoded(tmp_path, ["a b c d e", "a b"])
    torch.manual_seed(0)
    model = build_model("text_only", {"width": 8, "heads": 2, "image_size": 48}, data).eval()
    target = torch.ones(2, dtype=torch.bool)
    options = {"draws": 1, "batch_size": 2, "device": "cpu", "methods": ["dsmi", "saliency"]}
    plain, signed = (
        explain(model, data, target, arguments=arguments, **options).set_index(
            ["sample_id", "method"]
        )
        for arguments in (None, {"dsmi": {"sign": "minority"}})
    )
    own = plain.loc[("000", "dsmi")]
    assert own["flags"] == ""
    assert json.loads(own["facts"])["text"]["components"] == 1
    assert json.loads(own["facts"])["text"]["eigengap"] > GAP
    assert plain.loc[("001", "dsmi"), "flags"] == "text 2 tokens; text constant"
    assert plain.loc[("000", "saliency"), "facts"] == ""
    assert (own["text"] >= 0).all()
    assert (signed.loc[("000", "dsmi"), "text"] < 0).any()


def test_every_argument_that_a_decorator_declares_is_one_of_its_function():
    for name in METHODS.names():
        for argument in METHODS.attribute(name, "arguments", {}):
            assert argument in METHODS.get(name).__code__.co_varnames, (name, argument)
    known = {"explain": {"arguments": {"dsmi_grad": {"layers": "all"}}}}
    assert check_arguments({**known, "perturbation": {"arguments": {}}}) == []
