"""Sanity checks: what they change and put back, and what they say of methods with known maps."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from test_explanation import NAMES, encoded, find, make_batch, make_model
from torch import nn

from mmlens.explanation.explain import explain
from mmlens.models import build_model
from mmlens.perturbation.randomisation import parameter_blocks, randomised
from mmlens.perturbation.sanity import (
    AGNOSTIC,
    NoisySamples,
    check_maps,
    other_class,
    rank_correlation,
    relative_change,
)
from mmlens.perturbation.sanity_table import tabulate_sanity

torch.set_num_threads(1)

TEXTS = ["A red square", "no", "a b, c?"]
SETTINGS = {"blocks": 3, "noise": 0.02, "draws": 2, "seed": 0, "batch_size": 2}


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=20))
def test_rank_correlation_is_spearmans(pairs):
    first, second = np.array(pairs, float).T
    found = rank_correlation(first, second)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(spearmanr(first, second).statistic)
        assert rank_correlation(np.exp(first), -second) == pytest.approx(-found)


def test_relative_change_is_in_units_of_the_first_map():
    assert relative_change([3, 4], [3, 4]) == 0
    assert relative_change([3, 4], [0, 0]) == 1
    assert relative_change([3, 4], [6, 8]) == 1
    assert np.isnan(relative_change([0, 0], [6, 8]))


@pytest.mark.parametrize("name", NAMES)
def test_blocks_hold_every_parameter_once_and_begin_with_the_head(name):
    model = make_model(name)
    batch = make_batch(frozen=find(name)[0].frozen)
    blocks = parameter_blocks(model, batch, most=1000)
    names = [name for _, parameters in blocks for name in parameters]
    found = [id(p) for _, parameters in blocks for p in parameters.values()]
    assert sorted(found) == sorted(map(id, model.parameters()))
    (everything,) = parameter_blocks(model, batch, most=1)
    assert set(everything[1]) == set(names)
    three = parameter_blocks(model, batch, most=3)
    assert [len(three), *(n for _, part in three for n in part)] == [3, *names]
    # whatever is read last stands in the first block: no later one reaches the logits alone
    tokens = {m: t.rows(torch.arange(2)) for m, t in model.embed(batch).items()}
    head, *_, embeddings = (parameters for _, parameters in blocks)
    for part, moves in ((head, False), (embeddings, True)):
        with randomised(part, seed=0), torch.no_grad():
            after = model.embed(batch)
            same = all(torch.equal(after[m].values[:2], tokens[m].values) for m in tokens)
            assert same != moves


def test_a_layer_is_a_block_and_layers_come_in_the_order_of_the_forward_pass():
    blocks = parameter_blocks(make_model("vilt_scratch"), make_batch(), most=1000)
    layers = [name for name, _ in blocks if name.startswith("blocks.")]
    assert layers == [f"blocks.{k}" for k in reversed(range(4))]
    assert all(n.startswith("blocks.3.") for n in dict(blocks)["blocks.3"])
    (above, _), (below, _) = parameter_blocks(make_model("vilt_scratch"), make_batch(), 2)
    assert (above, below) == ("head to blocks.2", "blocks.1 to embeddings")
    streams = [name for name, _ in parameter_blocks(make_model("meter"), make_batch(), 1000)]
    assert streams[:2] == ["head", "cross_modal_image_layers.1"]
    assert "text_transformer.encoder.layer.0" in streams
    names = [name for name, _ in parameter_blocks(make_model("vilbert_scratch"), make_batch(), 99)]
    assert names[-2:] == ["text_block", "embeddings"]


class Tied(nn.Module):
    """An embedding whose weights are the head's too."""

    name = "tied"

    def __init__(self):
        super().__init__()
        self.head, self.words = nn.Linear(3, 3, bias=False), nn.Embedding(3, 3)
        self.head.weight = self.words.weight
        self.end = nn.Linear(3, 1)

    def embed(self, batch):
        return self.words(batch)

    def forward(self, tokens):
        return self.end(self.head(tokens))


def test_shared_parameters_are_randomised_where_they_are_nearest_to_the_input():
    tied = Tied()
    for most in (1, 2, 3):
        (*above, (_, last)) = parameter_blocks(tied, torch.tensor([1]), most)
        assert tied.words.weight in set(last.values())
        assert not any(p is tied.words.weight for _, part in above for p in part.values())


def test_randomised_weights_are_the_same_ones_in_another_order_and_come_back_exactly():
    model = make_model("clip_scratch")
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    chosen = dict(list(model.named_parameters())[1:6])
    with randomised(chosen, seed=0):
        for n, p in model.named_parameters():
            assert torch.equal(p, before[n]) == (n not in chosen)
            assert torch.equal(p.flatten().sort().values, before[n].flatten().sort().values)
        first = {n: p.detach().clone() for n, p in chosen.items()}
    with pytest.raises(RuntimeError, match="stop"), randomised(chosen, seed=0):
        raise RuntimeError("stop")
    for n, p in model.named_parameters():
        assert torch.equal(p, before[n])
        assert p.requires_grad
        assert p.grad is None
    some = next(iter(chosen))
    with randomised({some: chosen[some]}, seed=0):  # keyed by the name alone
        assert torch.equal(chosen[some], first[some])
    with randomised(chosen, seed=1):
        assert not torch.equal(chosen[some], first[some])


def example(folder, name="vilt_scratch"):
    """A small model, its data, the classes explained and the function that explains."""
    data = encoded(folder, TEXTS, find(name)[0].frozen)
    torch.manual_seed(0)
    entry, options = find(name)
    model = build_model(entry.name, {"width": 8, "heads": 2, "image_size": 48, **options}, data)
    predicted = torch.tensor([True, False, True])
    model.eval()

    def explained(data, classes, methods):
        return explain(model, data, classes, methods=methods, draws=1, batch_size=2, device="cpu")

    return model, data, predicted, explained


def checked(example, methods, checks):
    model, data, predicted, explained = example
    settings = {**SETTINGS, "methods": methods, "checks": checks}
    return check_maps(model, data, predicted, explained, settings, "cpu")


def test_parameter_randomisation_tells_methods_from_priors(tmp_path):
    small = example(tmp_path)
    before = small[0].state_dict()
    before = {name: value.clone() for name, value in before.items()}
    found = checked(small, ["centre_prior", "occlusion"], ["randomisation"])
    assert all(torch.equal(value, before[n]) for n, value in small[0].state_dict().items())
    assert set(found["check"]) == {"cascading", "independent"}
    assert found.groupby("check")["block"].nunique().tolist() == [3, 3]
    # three samples with an image and a text, two measures
    assert (found.groupby(["check", "method", "step"])["value"].size() == 12).all()
    prior = found[found["method"] == "centre_prior"]
    assert prior["value"].dropna().tolist() == pytest.approx([1] * prior["value"].notna().sum())
    assert prior["value"].isna().any()  # of a text of one word
    own = found[(found["method"] == "occlusion") & (found["modality"] == "image")]
    assert (own["value"] < 0.999).all()
    first = found[found["step"] == "1"].drop(columns="check").groupby(found["check"])
    cascading, independent = (part.reset_index(drop=True) for _, part in first)
    pd.testing.assert_frame_equal(cascading, independent)


def test_class_sensitivity_of_two_labels_and_of_methods_that_know_no_class(tmp_path):
    methods = ["rollout", "occlusion", "saliency", "grad_cam"]
    found = checked(example(tmp_path), methods, ["class_sensitivity"])
    image = found[(found["modality"] == "image") & found["value"].notna()]
    means = image.groupby(["method", "measure"])["value"].mean()
    # the logits of two labels are opposite: maps that are linear in them turn round
    assert means["occlusion", "spearman"] == pytest.approx(-1)
    assert means["occlusion", "spearman_abs"] == pytest.approx(1)
    assert means["saliency", "spearman"] == pytest.approx(1)
    notes = found.groupby("method")["note"].unique().map(list).to_dict()
    assert notes == {m: [AGNOSTIC if m == "rollout" else ""] for m in methods}
    assert means["rollout", "spearman"] == pytest.approx(1)


def test_the_other_answer_is_the_second_best_or_the_best_if_another_was_predicted():
    logits = torch.tensor([[3.0, 1, 2], [0, 5, 4], [1, 2, 3]])
    model, data = FixedLogits(logits), Rows(3)
    predicted = torch.tensor([0, 1, 0])
    assert other_class(model, data, predicted, 2, "cpu").tolist() == [2, 2, 2]
    assert other_class(model, data, predicted == 0, 2, "cpu").tolist() == [False, True, False]


class FixedLogits:
    def __init__(self, logits):
        self.logits = logits

    def embed(self, rows):
        return rows

    def __call__(self, rows):
        return self.logits[rows]


class Rows:
    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def batch(self, rows, device):
        return rows


@pytest.mark.parametrize("name", ["vilt_scratch", "blip_frozen"])
def test_noise_is_small_keyed_by_the_sample_and_not_on_padding(name, tmp_path):
    _, data, _, _ = example(tmp_path, name)
    clean = data.batch(torch.arange(3)).image
    together, again = (NoisySamples(data, 0.02, 0).batch(torch.arange(3)).image for _ in "ab")
    assert torch.equal(together, again)
    alone = NoisySamples(data, 0.02, 0).batch(torch.tensor([2])).image
    assert torch.equal(alone[0], together[2])
    other = NoisySamples(data, 0.02, 1).batch(torch.arange(3)).image
    assert not torch.equal(other, together)
    change = (together - clean).abs().flatten(1).amax(1)
    ranges = (clean.flatten(1).amax(1) - clean.flatten(1).amin(1)) * 0.02
    assert (change <= 1.001 * ranges).all()
    assert (change > 0.9 * ranges).all()
    assert len(NoisySamples(data, 0.02, 0)) == 3


def test_stability_takes_the_mean_of_correlations_and_the_largest_change(tmp_path):
    small = example(tmp_path)
    _, data, predicted, explained = small
    found = checked(small, ["centre_prior", "occlusion"], ["stability"])
    key = ["method", "modality", "measure", "sample_id"]
    values = found.set_index(key)["value"]
    assert values["centre_prior", "image", "max_sensitivity", "000"] == 0
    assert values["centre_prior", "image", "spearman", "000"] == pytest.approx(1)
    clean, *noisy = (
        explained(source, predicted, ["occlusion"])["image"][0]
        for source in (data, NoisySamples(data, 0.02, 0), NoisySamples(data, 0.02, 1))
    )
    changes = [relative_change(clean, maps) for maps in noisy]
    assert values["occlusion", "image", "max_sensitivity", "000"] == max(changes)
    correlations = [rank_correlation(clean, maps) for maps in noisy]
    assert values["occlusion", "image", "spearman", "000"] == pytest.approx(np.mean(correlations))


def test_noise_on_images_does_not_apply_to_a_model_of_texts(tmp_path):
    found = checked(example(tmp_path, "text_only"), ["occlusion"], ["stability"])
    assert found["note"].tolist() == [
        "not applicable: the noise is on images, which the model does not read"
    ]
    assert found["value"].isna().all()


def test_without_methods_there_is_nothing_to_check(tmp_path):
    assert checked(example(tmp_path, "text_only"), [], ["stability"]).empty


def test_where_no_method_applies_every_check_says_so(tmp_path):
    data = encoded(tmp_path, TEXTS)
    options = {"width": 8, "image_size": 48, "architecture": "resnet"}
    model = build_model("image", options, data).eval()
    own = ["randomisation", "stability"]
    settings = {**SETTINGS, "methods": ["rollout"], "checks": [*own, "modality_share", "emap"]}

    def explained(data, classes, methods):
        options = {"methods": methods, "draws": 1, "batch_size": 2, "device": "cpu"}
        return explain(model, data, classes, **options)

    found = check_maps(model, data, torch.ones(3, dtype=torch.bool), explained, settings, "cpu")
    assert found["check"].tolist() == own  # the others need no method
    assert set(found["note"]) == {"not applicable: none of the methods applies to the model"}


def test_without_records_the_table_is_empty():
    samples = pd.DataFrame({"sample_id": [], "cluster_id": []})
    records = pd.DataFrame(columns=["model", "seed", "check"])
    assert tabulate_sanity(records, samples, resamples=10, seed=0).empty


def test_the_table_counts_what_is_undefined_and_says_what_does_not_apply():
    samples = pd.DataFrame({"sample_id": list("abcd"), "cluster_id": list("xxyz"), "label": 1})
    blank = {"check": "stability", "method": "m", "step": "", "block": "", "modality": "image"}
    blank |= {"measure": "spearman", "note": "", "model": "model", "seed": 0}
    values = {"a": 1, "b": 0.5, "c": np.nan, "d": 0.6}
    rows = [{**blank, "sample_id": k, "value": v} for k, v in values.items()]
    rows.append(blank | {"sample_id": "", "note": "not applicable: x", "value": np.nan})
    table = tabulate_sanity(pd.DataFrame(rows), samples, resamples=100, seed=0)
    assert table.dtypes[["value", "low", "n"]].map(lambda kind: kind.kind).tolist() == list("ffi")
    known, absent = table.itertuples()
    assert (known.value, known.n, known.degenerate) == (pytest.approx(0.7), 3, 1)
    assert known.low <= 0.6 <= 0.75 <= known.high
    assert (absent.n, absent.degenerate, absent.note) == (0, 0, "not applicable: x")
    assert np.isnan(absent.value)
