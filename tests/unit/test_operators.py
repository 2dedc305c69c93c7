"""Operators of perturbation tests: what a model sees, on every model; their sources; shards."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.ndimage import gaussian_filter
from test_explanation import COUNT, NAMES, SINGLE, make_batch, make_model, plain_logits
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from training_data import new_model, write_data

from mmlens.explanation import NotApplicableError
from mmlens.explanation.explain import explain
from mmlens.explanation.words import word_numbers
from mmlens.models.inputs import EncodedSamples, InputSpec
from mmlens.perturbation import OPERATORS
from mmlens.perturbation.blocks import explain_and_perturb
from mmlens.perturbation.engine import perturb
from mmlens.perturbation.operators import (
    Inputs,
    box_overlap,
    build_operator,
)
from mmlens.perturbation.shards import join_shards, shard_rows
from mmlens.perturbation.sources import Pieces, Sources, draw_donors
from mmlens.table import write_parquet

torch.set_num_threads(1)

PIXELS = {"mean_fill", "blur", "other_image"}  # which models on frozen features have none of
# Models whose other layers read all states that the layers of the image alone give.
TWO_STAGES = ("meter", "meter_encoded", "blip", "blip_scratch", "blip_frozen", "lxmert", "siglip")


def inputs_of(batch, **options):
    spec = InputSpec(None, 12, 0, 4, **options)
    donors = torch.randn(batch.image.shape, generator=torch.Generator().manual_seed(5))
    words = torch.where(batch.text_content, 5 + (batch.input_ids + 1) % 15, batch.input_ids)
    return Inputs(batch, spec, donors.to(batch.image.dtype), words)


def operator_of(name, modality, model, batch=None, **arguments):
    batch = make_batch(frozen=model.frozen) if batch is None else batch
    with torch.no_grad():
        tokens = model.embed(batch)
        inputs = inputs_of(batch)
        return tokens, build_operator(name, modality, model, tokens, inputs, arguments)


@torch.no_grad()
def logits_with(model, operator, tokens, kept, prepared=False):
    """Logits of all samples, each with what `kept` (function of the count) leaves of it, alone."""
    found = []
    for k in range(COUNT):
        count = sum(
            int(tokens[m].content[k].sum())
            for m in (("image", "text") if operator.modality == "joint" else (operator.modality,))
        )
        row = torch.tensor([k])
        shown = operator.show(row, operator.plan(k, kept(count))[None])
        others = {m: (model.prepare(m, t) if prepared else t).rows(row) for m, t in tokens.items()}
        found.append(model({m: shown.get(m, others[m]) for m in tokens}))
    return torch.cat(found)


def same(found, expected, name):
    tolerance = 1e-5 if name in SINGLE or name.startswith(SINGLE) else 1e-9
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_every_operator_shows_everything_nothing_and_half_of_it(name):
    """Nothing removed is the plain pass, something removed changes it; or it does not apply."""
    model = make_model(name)
    expected, refused = plain_logits(model), set()
    for operator_name in OPERATORS.names():
        for modality in OPERATORS.attribute(operator_name, "modalities"):
            if modality not in model.modalities:
                continue
            try:
                tokens, operator = operator_of(operator_name, modality, model)
            except NotApplicableError:
                refused.add((operator_name, modality))
                continue
            same(logits_with(model, operator, tokens, range), expected, name)
            none = logits_with(model, operator, tokens, lambda count: ())
            half = logits_with(model, operator, tokens, lambda count: range(count // 2))
            assert none.isfinite().all()
            assert half.isfinite().all()
            assert ((half - expected).abs() > 1e-7).any(), (operator_name, modality)
            # What the test leaves alone may be computed before.
            again = logits_with(
                model, operator, tokens, lambda count: range(count // 2), prepared=True
            )
            same(again, half, name)
    inapplicable = {"encoded_drop", *(PIXELS if model.frozen else ["region_drop"])}
    assert {operator for operator, _ in refused} <= inapplicable
    if "image" in model.modalities:
        assert {operator for operator, _ in refused} >= inapplicable - {"encoded_drop"}
        assert (("encoded_drop", "image") in refused) == (name not in TWO_STAGES)
    if len(model.modalities) == 2:
        tokens, joint = operator_of("token_drop", "joint", model)
        same(logits_with(model, joint, tokens, range), expected, name)
        nothing = logits_with(model, joint, tokens, lambda count: ())
        _, patches = operator_of("token_drop", "image", model)
        words_left = logits_with(model, patches, tokens, lambda count: ())
        assert ((nothing - words_left).abs() > 1e-7).any()


@pytest.mark.parametrize("name", ["vilt_scratch", "blip", "clip", "text_gpt2", "lxmert"])
def test_a_masked_word_is_a_word_that_is_gone(name):
    model = make_model(name)
    kept = lambda count: range(0, count, 2)  # noqa: E731
    tokens, dropped = operator_of("token_drop", "text", model)
    _, masked = operator_of("attention_mask", "text", model)
    found = [logits_with(model, o, tokens, kept) for o in (dropped, masked)]
    same(found[1], found[0], name)


def test_deleted_words_move_the_rest_up():
    model, batch = make_model("vilt_scratch"), make_batch()
    tokens, operator = operator_of("delete", "text", model)
    found = logits_with(model, operator, tokens, lambda count: range(1, count))  # without the first
    for k in range(COUNT):
        own = [int(i) for i in batch.input_ids[k][batch.text_valid[k]]]
        count = int(batch.text_content[k].sum())
        ids = torch.tensor([own[:1] + own[2:] if count else own])
        shorter = replace(
            make_batch([k]), input_ids=ids, text_valid=ids >= 0, text_content=ids >= 5
        )
        with torch.no_grad():
            same(found[[k]], model(model.embed(shorter)), "vilt_scratch")


def test_words_are_masked_and_resampled_at_their_places():
    model, batch = make_model("text_only"), make_batch()
    shown = []
    model.embed_text = lambda own: shown.append(own.input_ids) or {}
    k = int(batch.text_content.sum(1).argmax())
    places = batch.text_content[k].nonzero()[:, 0]
    for name, expected in (("mask_token", 4), ("resample", inputs_of(batch).words[k, places[1]])):
        operator = OPERATORS.get(name)(
            model, "text", {"text": SimpleNamespace(content=None)}, inputs_of(batch)
        )
        kept = [i for i in range(len(places)) if i != 1]
        operator.show(torch.tensor([k]), operator.plan(k, kept)[None])
        ids = batch.input_ids[k].clone()
        ids[places[1]] = expected
        assert shown.pop()[0].tolist() == ids.tolist()
    inputs = replace(inputs_of(batch), spec=InputSpec(None, 12, 0, None))
    with pytest.raises(NotApplicableError, match="no \\[MASK\\]"):
        build_operator("mask_token", "text", model, None, inputs)


def test_pixels_of_removed_patches_are_replaced_and_no_others():
    model, batch = make_model("image_only"), make_batch()
    pixels = batch.image.numpy()
    seen = []
    embed, model.embed_image = model.embed_image, lambda own: seen.append(own.image) or embed(own)
    kept, removed = [0, 1, 2, 3, 4, 6, 7, 8], (slice(16, 32), slice(32, 48))  # row 1, column 2
    blurred = gaussian_filter(pixels, (0, 0, 8, 8), mode="nearest", truncate=3)
    fills = {"mean_fill": pixels.mean((2, 3), keepdims=True), "blur": blurred}
    fills["other_image"] = inputs_of(batch).donors.numpy()
    for name, fill in fills.items():
        _, operator = operator_of(name, "image", model)
        seen.clear()
        operator.show(torch.tensor([3, 1]), torch.stack([operator.plan(k, kept) for k in (3, 1)]))
        expected = pixels[[3, 1]].copy()
        own = np.broadcast_to(fill, pixels.shape)
        expected[:, :, *removed] = own[[3, 1]][:, :, *removed]
        np.testing.assert_allclose(seen[0].numpy(), expected, rtol=1e-9, atol=1e-9)
    _, weak = operator_of("blur", "image", model, sigma=0.1)
    assert not np.allclose(weak.fill, blurred)


def test_a_region_takes_those_that_overlap_it_with_it():
    boxes = torch.tensor([[0, 0, 4, 4], [0, 1, 4, 4], [2, 0, 6, 4], [9, 9, 9, 9.0]])
    expected = [[1, 3 / 4, 1 / 3, 0], [3 / 4, 1, 6 / 22, 0], [1 / 3, 6 / 22, 1, 0], [0, 0, 0, 0]]
    torch.testing.assert_close(box_overlap(boxes), torch.tensor(expected).float())
    model = make_model("lxmert")
    batch = make_batch(frozen=True)
    batch.boxes[:, :4] = boxes / 10
    _, operator = operator_of("region_drop", "image", model, batch)
    assert operator.plan(1, [1, 2, 3]).tolist() == [2, 3]  # box 1 goes with box 0
    assert operator.plan(1, [0, 1, 3]).tolist() == [0, 1, 3]
    _, strict = operator_of("region_drop", "image", model, batch, overlap=0.3)
    assert strict.plan(1, [0, 1, 3]).tolist() == [1, 3]
    # With a class token before the regions.
    _, shifted = operator_of("region_drop", "image", make_model("blip_frozen"), batch)
    assert shifted.plan(1, [1, 2, 3]).tolist() == [0, 3, 4]


def test_donors_and_pieces_come_from_other_clusters_and_are_drawn_by_sample():
    facts = {"sample_id": list("abcdef"), "cluster_id": list("xxyyzz"), "image": list("112233")}
    samples = pd.DataFrame({**facts, "text": ["p q", "p r s", "t", "u v", "w w w w", ""]})
    donors = draw_donors(samples)
    own = dict(zip(samples["sample_id"], samples["image"], strict=True))
    assert all(donors[name] != own[name] for name in own)
    assert len(set(donors.values())) > 1
    assert draw_donors(samples.iloc[:2]) is None
    spec = letters()
    pieces = Pieces(samples, spec)
    letter = {i: piece for piece, i in spec.tokenizer.get_vocab().items()}
    drawn = [letter[i] for i in pieces.draw("e", "z", 4)]
    assert drawn[0] in "ptu"
    assert drawn[1] in "qrv"
    assert drawn[2:] == ["s", "s"]
    assert pieces.draw("a", "x", 2) == pieces.draw("a", "x", 2)
    # Neither depends on the order of the table.
    operators, shuffled = ["other_image", "resample"], samples.iloc[[4, 2, 0, 5, 1, 3]]
    spec = replace(spec, geometry=SimpleNamespace())
    both = [Sources(frame, spec, operators) for frame in (samples, shuffled)]
    assert both[0].donor_of == both[1].donor_of == donors
    draws = [[s.pieces.draw(n, "x", 3) for n in "abcdef"] for s in both]
    assert draws[0] == draws[1]
    assert len(set(map(tuple, draws[0]))) > 1
    assert Sources(samples, spec, ["token_drop"]).pieces is None


def letters():
    """A tokenizer of single letters, whose words of several are split into pieces."""
    vocabulary = {"[PAD]": 0, "[CLS]": 1, "[UNK]": 2}
    names = [f"{mark}{letter}" for mark in ("", "##") for letter in "pqrstuvw-"]
    vocabulary |= {name: k + 3 for k, name in enumerate(names)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 1)])
    return InputSpec(tokenizer, 12, 0, None)


def test_pieces_are_counted_by_their_words():
    texts = ["pq r stu", "p-q", "", "w  w"]
    facts = {"sample_id": list("abcd"), "image": "", "label": 0, "text": texts}
    data = EncodedSamples(pd.DataFrame(facts), letters())
    assert word_numbers(data, 0) == [0, 0, 1, 2, 2, 2]
    assert word_numbers(data, 1) == [0, 1, 2]  # as the tokenizer takes them apart
    assert word_numbers(data, 2) == []
    assert word_numbers(data, 3) == [0, 1]
    whole = letters()
    whole.tokenizer.pre_tokenizer = None  # takes a text for one word; then spaces part words
    whole = EncodedSamples(pd.DataFrame(facts | {"text": ["pq", "p", "", "w"]}), whole)
    assert word_numbers(whole, 0) == [0, 0]


def test_an_operator_that_does_not_apply_is_said_and_has_no_rows():
    model, batch = make_model("lxmert"), make_batch(frozen=True)
    with torch.no_grad():
        tokens = model.embed(batch)
    ids = [f"sample-{k}" for k in range(COUNT)]
    counts = {m: t.content.sum(1) for m, t in tokens.items()}
    rows = [
        {"sample_id": s, "method": "m", **{m: np.arange(int(c[k])) for m, c in counts.items()}}
        for k, s in enumerate(ids)
    ]
    samples = pd.DataFrame({"sample_id": ids, "label": 1, "prediction": 1, "threshold": 0.5})
    said = []
    options = {"steps": (0, 1), "protocol": "default", "batch_size": 100, "say": said.append}
    options["inputs"] = inputs_of(batch)
    found = perturb(
        model, tokens, pd.DataFrame(rows), samples,
        operators=["mean_fill", "region_drop", "mask_token"], **options,
    )  # fmt: skip
    assert said == [
        "perturbation: mean_fill of image is not applicable to lxmert: it reads cached features, "
        "no pixels"
    ]
    tests = list(found.groupby(["operator", "modality"], sort=False).groups)
    assert tests == [("region_drop", "image"), ("mask_token", "text")]
    with pytest.raises(ValueError, match="found blur, of which none applies to lxmert"):
        perturb(model, tokens, pd.DataFrame(rows), samples, operators=["blur"], **options)
    with pytest.raises(ValueError, match="operator mask_token: found no inputs"):
        build_operator("mask_token", "text", model, tokens)


@pytest.mark.parametrize(("count", "block", "shards"), [(10, 3, 3), (2, 5, 3), (12, 4, 1)])
def test_shards_are_whole_blocks_and_together_everything(count, block, shards):
    parts = [shard_rows(count, block, k, shards) for k in range(shards)]
    assert [row for part in parts for row in part] == list(range(count))
    assert all(part.start % block == 0 for part in parts if part)


def test_results_are_the_same_bytes_for_any_number_of_shards(tmp_path):
    everything = write_data(tmp_path, {"train": 4, "val": 1, "test": 3})
    model = new_model(everything).eval()
    explained = everything.samples.iloc[everything.split("test").numpy()].reset_index(drop=True)
    explained = explained.assign(prediction=1, threshold=0.5)
    operators = ["token_drop", "other_image", "resample"]
    files = {}
    for shards in (1, 2, 3):
        frames = {"attributions": [], "perturbation": []}
        for shard in range(shards):
            own = explained.iloc[shard_rows(len(explained), 4, shard, shards)]
            data = EncodedSamples(own, everything.spec)
            target = torch.ones(len(own), dtype=torch.bool)
            maps, found = explain_and_perturb(
                model, data, target, Sources(explained, data.spec, operators), block=4,
                device="cpu", explaining={"methods": ["random", "saliency"], "draws": 2},
                perturbing={
                    "steps": (0, 0.5, 1), "protocol": "default", "batch_size": 50, "words": True,
                    "operators": operators, "joint": True,
                },
            )  # fmt: skip
            for kind, frame in (("attributions", maps), ("perturbation", found)):
                path = tmp_path / f"{kind}-{shard}.parquet"
                write_parquet(path, frame)
                frames[kind].append(pd.read_parquet(path) if shards > 1 else frame)
        for kind, parts in frames.items():
            path = tmp_path / f"{kind}.parquet"
            write_parquet(path, join_shards([*parts, pd.DataFrame()]))
            files[shards, kind] = path.read_bytes()
    for kind in ("attributions", "perturbation"):
        assert files[1, kind] == files[2, kind] == files[3, kind]
    assert len(pd.read_parquet(tmp_path / "perturbation.parquet")) == 12 * 2 * 5 * 6


@pytest.mark.parametrize("memory", [1000, 0.001], ids=["together", "one by one"])
def test_together_are_what_explaining_and_testing_give_alone(tmp_path, memory):
    everything = write_data(tmp_path, {"train": 4, "val": 1, "test": 4})
    model = new_model(everything).eval()
    own = everything.samples.iloc[everything.split("test").numpy()].reset_index(drop=True)
    data = EncodedSamples(own.assign(prediction=1, threshold=0.5), everything.spec)
    assert len(set(data.lengths.tolist())) > 1
    target, sources = torch.ones(len(own), dtype=torch.bool), Sources(own, data.spec, [])
    explaining = {"methods": ["saliency", "rollout"], "draws": 1, "memory": memory}
    perturbing = {"steps": (0, 0.5, 1), "protocol": "default", "batch_size": 50}
    maps, found = explain_and_perturb(
        model, data, target, sources, block=len(own), device="cpu", explaining=explaining,
        perturbing={**perturbing, "words": False},
    )  # fmt: skip
    alone = explain(model, data, target, batch_size=len(own), device="cpu", **explaining)
    pd.testing.assert_frame_equal(maps, alone)
    tokens = model.embed(data.batch(torch.arange(len(own))))
    expected = perturb(model, tokens, maps, data.samples, **perturbing)
    # A batch of other size is summed in another order: some units in the last place of float32.
    pd.testing.assert_frame_equal(found, expected, rtol=0, atol=1e-5)
    shared = data.batch(torch.tensor([0, 0]), share_images=True)
    with pytest.raises(ValueError, match="found samples that share images"):
        shared.rows([1])
