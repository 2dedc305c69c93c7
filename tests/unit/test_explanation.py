"""Explanations: the capture changes nothing, and every method computes what its formula says."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from PIL import Image

from mmlens.datasets.vocabulary import CLS, PAD, SEP, train_tokenizer
from mmlens.explanation import METHODS
from mmlens.explanation.capture import capture
from mmlens.explanation.explain import explain
from mmlens.features import get_extractor
from mmlens.features.base import Geometry
from mmlens.features.extract import extract
from mmlens.features.reader import FeatureReader
from mmlens.files import sha256_file, write_json
from mmlens.models import MODELS, build_model
from mmlens.models.base import Edge
from mmlens.models.inputs import Batch, EncodedSamples, own_inputs
from mmlens.models.layers import DotProductAttention, Stem
from mmlens.table import write_parquet

torch.set_num_threads(1)

FIXED_METHODS = [name for name in METHODS.names() if name != "random"]
QUICK = {"integrated_gradients": {"steps": 2}, "smooth_grad": {"samples": 2}}
QUICK["shapley"] = {"permutations": 2}
WORDS_PER_TEXT = (4, 1, 0, 6, 3)  # 0: a text of special tokens only must not break a method
COUNT = len(WORDS_PER_TEXT)
TARGET = torch.tensor([True, False, True, True, False])
MAPS = {"text_only": 2, "image_only": 2, "clip_scratch": 6, "vilt_scratch": 4}  # default depth
MAPS |= {"blip_scratch": 2 + 2 * 3, "vilbert_scratch": 1 + 2 * 4, "blip_frozen": 2 + 2 * 3}
VARIANTS = {"vilbert_task": ("vilbert", {"task": 3})}
VARIANTS["vilbert_first_region"] = ("vilbert", {"global_region": False})
MAPS |= dict.fromkeys(("vilbert", *VARIANTS), 4 + 2 + 2 * 2)
VARIANTS["meter_encoded"] = ("meter", {"image_tokens": "encoded"})
MAPS |= {"meter": 2 + 2 + 2 * 4, "meter_encoded": 2 + 2 * 4}
MAPS |= {"vilt": 4, "clip": 3 + 3, "siglip": 3 + 3 + 1}
MAPS |= {"blip": 2 + 2 * 3, "blip_contrastive": 2 + 3}
MAPS |= {"lxmert": 2 + 1 + 2 * 4, "visual_bert": 4}
VARIANTS["text_gpt2"] = ("text", {"architecture": "gpt2"})
MAPS |= {"text": 4, "text_gpt2": 4}
NAMES = list(MAPS)
SINGLE = ("clip", "siglip")  # whose stock classes compute maps in single precision
FEATURES = SimpleNamespace(width=6, grid=None)  # of nine regions, some of them padding


def find(name):
    """Class and keyword arguments of a model or variant."""
    name, options = VARIANTS.get(name, (name, {}))
    return MODELS.get(name), options


def make_model(name):
    """A small model in double precision, so that equality can be asked for almost exactly."""
    torch.manual_seed(0)
    entry, options = find(name)
    features = {"features": FEATURES} if entry.frozen else {}
    sizes = {"vocabulary_size": 20, "max_length": 12, "width": 8, "heads": 2, "image_size": 48}
    model = entry(**sizes, **features, **options)
    with torch.no_grad():  # fresh norms and biases are ones and zeros, which hide mistakes
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.double().eval()


def make_batch(rows=slice(None), length=8, frozen=False):
    generator = torch.Generator().manual_seed(1)
    words = torch.randint(5, 20, (COUNT, 6), generator=generator).tolist()
    pixels = torch.randn(COUNT, 3, 48, 48, generator=generator).double()
    ids = torch.full((COUNT, length), PAD)
    for k, n in enumerate(WORDS_PER_TEXT):
        ids[k, : n + 2] = torch.tensor([CLS, *words[k][:n], SEP])
    ids, valid = ids[rows], ids[rows] != PAD
    positions = torch.arange(len(ids))
    if not frozen:
        return Batch(ids, valid, ids >= 5, pixels[rows], positions)
    regions = torch.randn(COUNT, 9, 6, generator=generator).double()
    corners = torch.rand(COUNT, 9, 2, 2, generator=generator).double().sort(2).values
    seen = torch.arange(9) < torch.tensor([9, 4, 1, 0, 9])[:, None]
    boxes = corners.flatten(2)
    return Batch(ids, valid, ids >= 5, regions[rows], positions, boxes[rows], seen[rows])


def captured(model, rows=tuple(range(COUNT)), length=8, **options):
    ids, rows = [f"sample-{k}" for k in rows], list(rows)
    batch = make_batch(rows, length, model.frozen)
    return capture(model, batch, ids, TARGET[rows], **options)


def method_of(name):
    """A method, with few steps where it has many."""
    return partial(METHODS.get(name), **QUICK.get(name, {}))


def close(found, expected, rtol=1e-9, atol=1e-13):
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


@torch.no_grad()
def plain_logits(model):
    return model(model.embed(make_batch(frozen=model.frozen)))


def assert_untouched(model):
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(m.eager for m in model.modules() if isinstance(m, DotProductAttention))
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_the_models_that_start_from_the_stem_have_one(name):
    wanted = MODELS.attribute(find(name)[0].name, "stem", False)
    assert isinstance(make_model(name).image_stem, Stem) == wanted


@pytest.mark.parametrize("name", NAMES)
def test_capture_changes_nothing_and_keeps_every_announced_map(name):
    model = make_model(name)
    before = plain_logits(model)
    seen = captured(model)
    tolerance = (1e-6, 1e-6) if name in SINGLE else ()
    close(seen.logits, before, *tolerance)
    assert torch.equal(plain_logits(model), before)
    assert_untouched(model)
    assert len(seen.maps) == MAPS[name]
    for m in seen.maps:
        close(m.attention.sum(-1), torch.ones_like(m.attention[..., 0]), *tolerance)
        assert (m.attention.masked_select(~seen.layout.valid[m.key][:, None, :]) == 0).all()
    kept = [(m.query, m.key) for m in seen.maps if m.heads is not None]
    assert sorted(kept) == sorted({(m.query, m.key) for m in seen.maps})


class Overpromising(MODELS.get("vilbert_scratch")):
    def edges(self):  # announces a second call of a map that is computed once
        edges = super().edges()
        return [*edges, Edge(edges[0].module, "text", "text", call=1)]


def test_an_exception_leaves_no_hooks_and_no_eager_attention():
    model = Overpromising(20, width=8, heads=2, image_size=48, max_length=12).double().eval()
    with pytest.raises(RuntimeError, match="text -> text, call 1: found 1 calls"):
        captured(model)
    assert_untouched(model)


@pytest.mark.parametrize("method", FIXED_METHODS)
@pytest.mark.parametrize("name", NAMES)
def test_a_sample_gets_the_same_map_alone_reordered_and_with_more_padding(name, method):
    model, explained = make_model(name), method_of(method)
    seen, order = captured(model), [3, 0, 4, 2, 1]
    together, shown = explained(seen), seen.layout.content
    reordered = explained(captured(model, order))
    longer = explained(captured(model, length=12))
    assert set(together) == set(model.modalities)
    for modality, values in together.items():
        assert torch.isfinite(values).all()
        close(reordered[modality], values[order])
        close(longer[modality][:, : values.shape[1]][shown[modality]], values[shown[modality]])
    for k in range(COUNT):
        alone = explained(captured(model, [k]))
        for modality, values in together.items():
            close(alone[modality][0], values[k])


@pytest.mark.parametrize("method", FIXED_METHODS)
@pytest.mark.parametrize("name", NAMES)
def test_maps_tell_tokens_apart(name, method):
    model, batch = make_model(name), make_batch(frozen=find(name)[0].frozen)
    ids = list(map(str, range(COUNT)))
    # A map of a random model that is cut at 0 may be 0 everywhere, but not for both classes.
    both = [capture(model, batch, ids, target) for target in (TARGET, ~TARGET)]
    for modality, content in both[0].layout.content.items():
        found = [method_of(method)(seen) for seen in both]
        maps = [maps[modality] for maps in found]
        assert all(torch.isfinite(values).all() for values in maps)
        flags = getattr(found[0], "flags", {}).get(modality, [""] * COUNT)
        told = (v[k][content[k]].unique().numel() > 1 for v in maps for k in range(COUNT))
        assert any(told) or all(flags)


@pytest.mark.parametrize("method", ["raw_attention", "attention_grad_cam", "rollout", "relevance"])
def test_every_sample_may_be_read_at_a_row_of_its_own(method):
    seen, explained = captured(make_model("vilt_scratch")), METHODS.get(method)

    def read_at(row):
        return explained(replace(seen, layout=replace(seen.layout, readouts=(("joint", row),))))

    rows = [0, 3, 1, 2, 0]
    found = read_at(torch.tensor(rows))
    for k, row in enumerate(rows):
        for modality, values in read_at(row).items():
            close(found[modality][k], values[k])
    assert not torch.allclose(found["image"][1], read_at(0)["image"][1])


def test_gradients_are_those_of_the_target_class():
    model = make_model("clip_scratch")
    tokens = model.embed(make_batch())
    of_label_1 = torch.autograd.grad(model(tokens).sum(), tokens["text"].values)[0]
    of_label_1[~TARGET] *= -1
    close(captured(model).embeddings["text"][1], of_label_1)


@pytest.mark.parametrize("name", ["text_only", "image_only", "vilt_scratch", "clip_scratch"])
def test_without_cross_attention_relevance_and_rollout_are_products_of_their_maps(name):
    seen = captured(make_model(name))
    relevance, rollout = (METHODS.get(method)(seen) for method in ("relevance", "rollout"))
    for modality, span in seen.layout.spans.items():
        eye = torch.eye(seen.layout.valid[span.stream].shape[1], dtype=torch.float64)
        r = joint = eye
        for m in seen.maps:
            if m.key == span.stream:
                r = r + m.relevance @ r  # transformer attribution
                mixed = m.attention + eye
                joint = mixed / mixed.sum(-1, keepdim=True) @ joint
        close(relevance[modality], r[:, 0, span.slice])
        close(rollout[modality], joint[:, 0, span.slice])


def normalised(r):
    """I + row-normalised (R - I); rows that sum to 0 stay 0."""
    rest = r - torch.eye(r.shape[-1])
    return torch.eye(r.shape[-1]) + (rest / rest.sum(-1, keepdim=True)).nan_to_num()


def vilbert_relevance(seen, parallel):
    """The relevance of vilbert_scratch written out; crosses one after the other or in parallel."""
    sizes = {s: valid.shape[1] for s, valid in seen.layout.valid.items()}
    new = {(a, b): torch.zeros(COUNT, sizes[a], sizes[b]).double() for a in sizes for b in sizes}
    for stream in sizes:
        new[stream, stream] += torch.eye(sizes[stream])
    for step in seen.steps:
        before = dict(new)
        for m in step:
            r, e, (s, q) = before if parallel else dict(new), m.relevance, (m.query, m.key)
            if s == q:
                new |= {(s, k): r[s, k] + e @ r[s, k] for k in sizes}
            else:
                new[s, q] = r[s, q] + normalised(r[s, s]).mT @ e @ normalised(r[q, q])
                new[s, s] = r[s, s] + e @ r[q, s]
    return {m: new["text", m][:, 0] + new["image", m][:, 0] for m in sizes}


def test_crosses_in_parallel_read_the_state_from_before_the_step():
    seen = captured(make_model("vilbert_scratch"))
    found = METHODS.get("relevance")(seen)
    expected, wrong = vilbert_relevance(seen, True), vilbert_relevance(seen, False)
    close(found["text"], expected["text"])
    close(found["image"], expected["image"])
    assert not torch.allclose(found["image"], wrong["image"])


@pytest.mark.parametrize("name", ["image_only", "meter", "meter_encoded", "blip_frozen"])
def test_without_the_gradient_of_the_pixels_all_other_maps_are_the_same(name):
    model = make_model(name)
    full, rest = captured(model), captured(model, pixels=False)
    assert rest.image[1] is None
    assert full.image[1].abs().sum() > 0
    close(rest.image[0], full.image[0])
    for method in set(FIXED_METHODS) - {"saliency"} - set(QUICK):
        expected = METHODS.get(method)(full)
        for modality, values in METHODS.get(method)(rest).items():
            close(values, expected[modality])


def test_explain_asks_for_what_a_method_of_another_one_reads(tmp_path):
    """The reverse of saliency needs the gradient of the pixels, as saliency does."""
    data = encoded(tmp_path, ["one two", "three"])
    model = build_model("vilt_scratch", {"width": 16, "heads": 2, "image_size": 48}, data).eval()
    found = explain(
        model,
        data,
        torch.tensor([True, False]),
        methods=["reversed"],
        draws=1,
        batch_size=2,
        device="cpu",
        arguments={"reversed": {"method": "saliency"}},
    )
    assert all(row.image.max() < 0 for row in found.itertuples())


def test_grad_cam_is_its_formula_and_reads_the_layer_it_is_told():
    model = make_model("blip_scratch")
    layers = ("text_blocks.2.norm", "text_blocks.0.norm")
    seen = [captured(model), *(captured(model, grad_cam_layers={"text": n}) for n in layers)]
    maps = [METHODS.get("grad_cam")(each) for each in seen]
    assert torch.equal(maps[0]["text"], maps[1]["text"])
    assert not torch.allclose(maps[0]["text"], maps[2]["text"])
    assert torch.equal(maps[0]["image"], maps[2]["image"])
    features, gradient = seen[0].features["text"]
    for k, n in enumerate(WORDS_PER_TEXT):
        weights = gradient[k, 1 : n + 1].sum(0) / max(n, 1)
        close(maps[0]["text"][k], (features[k] @ weights).relu())


def test_grad_cam_on_an_unknown_layer_names_the_norms_of_the_model():
    with pytest.raises(ValueError, match=r"'blocks.9.norm' in text_only.*blocks.1.norm"):
        captured(make_model("text_only"), grad_cam_layers={"text": "blocks.9.norm"})


def test_grad_cam_on_a_layer_of_the_other_modality_is_an_error():
    with pytest.raises(ValueError, match="text"):  # 10 image tokens would pass for 8 of text
        captured(make_model("vilbert_scratch"), grad_cam_layers={"text": "image_blocks.0.norm"})


def test_random_maps_are_keyed_by_sample_and_draw_not_by_position():
    model, method = make_model("vilt_scratch"), METHODS.get("random")
    together, reordered = method(captured(model)), method(captured(model, [4, 2]))
    padded, second = method(captured(model, length=12)), method(captured(model), draw=1)
    for modality, values in together.items():
        assert torch.equal(reordered[modality], values[[4, 2]])
        assert torch.equal(padded[modality][:, : values.shape[1]], values)
        assert not torch.equal(second[modality], values)
        assert not torch.equal(values[0], values[1])


def encoded(folder, texts, frozen=False):
    paths = [str(folder / f"{k}.png") for k in range(len(texts))]
    for path in paths:
        Image.linear_gradient("L").save(path)
    samples = pd.DataFrame({"image": paths, "text": texts, "label": 1})
    samples["sample_id"] = [f"{k:03}" for k in samples.index]
    train_tokenizer(texts, texts).save(str(folder / "tokenizer.json"))
    features = cached_pixels(folder, samples) if frozen else None
    return EncodedSamples(samples, own_inputs(folder / "tokenizer.json", 48), features)


def cached_pixels(folder, samples):
    """A reader of the real cache: nine patches of each image."""
    facts = {"image_sha256": samples["image"].map(sha256_file), "width": 256, "height": 256}
    index, facts = extract(
        samples.assign(**facts), get_extractor("pixels", size=48), cache=folder, dtype="float32",
        shard=2, batch_size=2, threads=1, keep_decoded=False, device="cpu",
    )  # fmt: skip
    write_parquet(folder / "index.parquet", index)
    write_json(folder / "facts.json", facts)
    return FeatureReader(folder / "index.parquet")


def explained(data, name, methods):
    torch.manual_seed(0)
    entry, options = find(name)
    settings = {"width": 8, "heads": 2, "image_size": 48, **options}
    model = build_model(entry.name, settings, data).eval()
    target = torch.ones(len(data), dtype=torch.bool)
    return explain(model, data, target, methods=methods, draws=2, batch_size=2, device="cpu")


@pytest.mark.parametrize("name", NAMES)
def test_explain_gives_every_patch_and_exactly_the_words(name, tmp_path):
    model, _ = find(name)
    data, reads = (
        encoded(tmp_path, ["A red square", "no", "a b, c?"], model.frozen),
        model.modalities,
    )
    frame = explained(data, name, ("random", "rollout"))
    assert frame["method"].value_counts().to_dict() == {"random": 6, "rollout": 3}
    words = {"000": ["A", "red", "square"], "001": ["no"], "002": list("ab,c?")}
    for row in frame.itertuples():
        assert len(row.image) == (9 if "image" in reads else 0)
        assert row.tokens == (words[row.sample_id] if "text" in reads else [])
        assert len(row.text) == len(row.tokens)
        assert row.flags == ""
        if "image" in reads:
            assert (row.grid_rows, row.grid_columns) == (3, 3)
        assert len(row.boxes) == (4 * 9 if model.frozen else 0)


def test_an_image_without_regions_is_explained_by_its_words_alone():
    seen = captured(make_model("blip_frozen"))
    shown = seen.layout.content["image"].sum(1).tolist()
    assert shown == [9, 4, 1, 0, 9]
    for method in METHODS.names():
        relevance = method_of(method)(seen)
        assert all(torch.isfinite(values).all() for values in relevance.values())


def test_constant_maps_are_flagged(tmp_path):  # two words are equally far from the middle
    frame = explained(encoded(tmp_path, ["a b c", "d", "e f"]), "text_only", ["centre_prior"])
    assert frame["flags"].tolist() == ["", "", "text constant"]


def test_a_special_token_written_in_a_text_is_a_word(tmp_path):
    frame = explained(encoded(tmp_path, ["a [SEP] b", "a [PAD] b"]), "text_only", ["random"])
    assert [len(tokens) for tokens in frame["tokens"]] == [len(text) for text in frame["text"]]


def test_patches_of_a_cut_image_lie_where_they_were_cut_out(tmp_path):
    data = encoded(tmp_path, ["a b", "c"])
    for path in data.samples["image"]:
        Image.new("RGB", (200, 100)).save(path)
    cut = replace(data.spec, geometry=Geometry(48, 48, shortest_edge=48))
    data = EncodedSamples(data.samples.assign(width=200, height=100), cut)
    frame = explained(data, "vilt_scratch", ["centre_prior"])
    boxes = torch.tensor(frame["boxes"][0]).view(3, 3, 4)
    assert torch.allclose(boxes[0, 0], torch.tensor([0.25, 0, 0.25 + 1 / 6, 1 / 3]))
    assert torch.allclose(boxes[2, 2], torch.tensor([0.75 - 1 / 6, 2 / 3, 0.75, 1]))
