"""Diagnostics: entropy and mass of attention, records of samples, their tables and figures."""

import weakref
from dataclasses import replace
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from test_config import config_with, problems_of
from test_explanation import (
    COUNT,
    MAPS,
    NAMES,
    captured,
    close,
    encoded,
    make_batch,
    make_model,
)

from mmlens.diagnostics.attention import normalised_entropy, summarised_attention
from mmlens.diagnostics.lens import NO_LAYERS
from mmlens.diagnostics.outcomes import outcomes
from mmlens.diagnostics.records import NO_MAPS, ONE_MODALITY, diagnose, lens_records
from mmlens.diagnostics.tables import mean_maps, tabulate_attention, tabulate_depth, tabulate_lens
from mmlens.explanation.attention import raw_attention
from mmlens.explanation.capture import observed
from mmlens.figures.layer_curves import cross_modal_curves, entropy_curves
from mmlens.figures.logit_lens import logit_lens
from mmlens.figures.mean_attention import mean_attention, top
from mmlens.models import build_model
from mmlens.models.base import Layout, Span
from mmlens.models.image import Image
from mmlens.perturbation.randomisation import randomised
from mmlens.ranking import RANDOM
from mmlens.report.diagnostics import diagnostic_tables

FEW = {"resamples": 50, "seed": 0}
TEXTS = ["a b c", "d e", "a", "b c d e"]


def summarised(model, rows=tuple(range(COUNT)), length=8):
    with torch.no_grad():
        tokens = model.embed(make_batch(list(rows), length, model.frozen))
        with summarised_attention(model, model.layout(tokens)) as found:
            model(tokens)
    return found


def numbers(found):
    """{(query, key, layer, quantity): (B, H)} of an AttentionSummary."""
    values = {(m.query, m.key, m.layer, "entropy"): m.entropy for m in found.maps}
    masses = ((m, mass) for m in found.maps for mass in m.masses)
    return values | {(m.query, m.key, m.layer, mass.rows): mass.share for m, mass in masses}


def test_entropy_is_1_for_the_same_on_all_keys_and_0_for_all_on_one():
    keys = torch.tensor([[True, True, True, False]]).expand(4, -1)[None]
    queries = torch.ones(1, 4, dtype=torch.bool)
    even, one = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    even[..., :3], one[..., 1] = 1 / 3, 1
    assert normalised_entropy(even, queries, keys).item() == pytest.approx(1)
    assert normalised_entropy(one, queries, keys).item() == 0
    half = one.clone()
    half[0, 0, :2] = even[0, 0, :2]  # two queries of each kind; of these, one is padding
    assert normalised_entropy(half, queries, keys).item() == pytest.approx(0.5)
    some = torch.tensor([[True, True, True, False]])
    assert normalised_entropy(half, some, keys).item() == pytest.approx(2 / 3)


def test_a_query_with_one_key_has_no_entropy_and_none_at_all_has_no_number():
    keys = torch.ones(1, 2, 2, dtype=torch.bool).tril()  # causal: the first reads itself
    attention = torch.tensor([[1.0, 0.0], [0.5, 0.5]])[None, None]
    queries = torch.ones(1, 2, dtype=torch.bool)
    assert normalised_entropy(attention, queries, keys).item() == pytest.approx(0.5)
    assert normalised_entropy(attention, ~queries, keys).isnan().all()


def single_stream(attention):
    """A model of one map over two words, of which one may be padding, and three patches."""
    leaf = torch.nn.Identity()
    edge = SimpleNamespace(module=leaf, query="joint", key="joint", call=0, item=None)
    valid = torch.tensor([[True, True, True, True, True], [True, False, True, True, True]])
    layout = Layout(
        spans={"text": Span("joint", 0, 2), "image": Span("joint", 2, 5)},
        content={"text": valid[:, :2], "image": valid[:, 2:]},
        valid={"joint": valid},
        readouts=(("joint", 0),),
        grid=(1, 3),
    )
    model = SimpleNamespace(
        edges=lambda: [edge], causal_streams=(), attention_implementation="sdpa"
    )
    model.use_attention = lambda implementation: None
    with summarised_attention(model, layout) as found:
        leaf(attention)
    return {mass.rows: mass.share[:, 0].tolist() for mass in found.maps[0].masses}


def test_cross_modal_mass_by_hand():
    attention = torch.tensor(
        [
            [0.1, 0.2, 0.3, 0.4, 0.0],  # a word: 0.7 on patches
            [0.5, 0.0, 0.5, 0.0, 0.0],  # a word, or padding: 0.5
            [0.2, 0.0, 0.8, 0.0, 0.0],  # patches: 0.2, 0.3 and 1 on words
            [0.3, 0.0, 0.0, 0.0, 0.7],
            [1.0, 0.0, 0.0, 0.0, 0.0],
        ]
    ).expand(2, 1, 5, 5)
    found = single_stream(attention.clone())
    assert found["text"] == pytest.approx([0.6, 0.7])
    assert found["image"] == pytest.approx([0.5, 0.5])
    assert found["readout"] == pytest.approx([0.7, 0.7])


@pytest.mark.parametrize("name", NAMES)
def test_every_map_is_summarised_and_shares_are_shares(name):
    model = make_model(name)
    found = summarised(model)
    assert len(found.maps) == MAPS[name]
    for values in numbers(found).values():
        exists = values[~values.isnan()]
        assert len(exists)
        assert ((exists > -1e-9) & (exists < 1 + 1e-6)).all()
    entropies = torch.cat([m.entropy.flatten() for m in found.maps if m.query != "pooling"])
    assert entropies.nanmean() > 0.2
    for m in found.maps:
        fixed = [mass for mass in m.masses if mass.note]
        assert bool(fixed) == (m.query != "joint" and m.query != "pooling" and len(
            found.layout.spans) > 1)  # fmt: skip
        assert all((mass.share.nan_to_num(m.query != m.key) == (m.query != m.key)).all()
                   for mass in fixed)  # fmt: skip
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("name", NAMES)
def test_batches_and_padding_change_no_summary(name):
    model = make_model(name)
    whole = numbers(summarised(model))
    for k in (0, 2, 4):
        alone = numbers(summarised(model, [k], 11))
        for key, values in alone.items():
            torch.testing.assert_close(
                values[0], whole[key][k], rtol=1e-5, atol=1e-5, equal_nan=True
            )


def test_a_causal_model_counts_only_what_a_word_may_read():
    for name, stream in (("text_gpt2", "text"), ("clip", "text")):
        model = make_model(name)
        assert model.causal_streams == (stream,)
        seen, found = captured(model), summarised(model)
        last = seen.maps_between(stream, stream)[-1].heads[3].double()  # (H, T, T), of all 8 tokens
        entropy = torch.special.entr(last).sum(-1)[:, 1:] / torch.arange(2, 9).log()
        expected = entropy.sum(1) / 8  # the first one reads itself alone
        summary = [m for m in found.maps if m.query == stream][-1]
        close(summary.entropy[3].double(), expected, 1e-5, 1e-5)


def test_the_readout_row_is_raw_attention():
    for name in ("vilt_scratch", "blip_scratch", "clip", "siglip", "meter"):
        model = make_model(name)
        expected = raw_attention(captured(model))
        found = raw_attention(RowsAsMaps(summarised(model)))
        for modality, values in expected.items():
            close(found[modality], values, 1e-6, 1e-6)


class RowsAsMaps:
    """Rows of the readout token in the place of maps with one row."""

    def __init__(self, found):
        self.found = found
        self.layout = replace(
            found.layout, readouts=tuple((stream, 0) for stream, _ in found.layout.readouts)
        )

        self.maps = found.maps

    def maps_between(self, query, key):
        rows = self.found.maps_between(query, key)
        return [SimpleNamespace(attention=row[:, None]) for row in rows]


def test_no_map_outlives_its_layer():
    model, alive = make_model("vilt_scratch"), []

    def see(_edge, attention):
        assert not any(earlier() is not None for earlier in alive)
        alive.append(weakref.ref(attention))

    with torch.no_grad(), observed(model, see):
        model(model.embed(make_batch()))
    assert len(alive) == MAPS["vilt_scratch"]


def test_hooks_go_away_and_a_missing_map_is_an_error():
    model = make_model("vilt_scratch")
    with pytest.raises(RuntimeError, match="found 0 calls"), observed(model, print):
        pass
    with pytest.raises(ZeroDivisionError), observed(model, lambda *_: 1 / 0):
        model(model.embed(make_batch()))
    assert not any(module._forward_hooks for module in model.modules())
    assert model.attention_implementation == "sdpa"


# Records, tables and figures.


def diagnosed(data, name, **options):
    torch.manual_seed(0)
    model = build_model(name, {"width": 8, "heads": 2, "image_size": 48}, data).eval()
    predicted = np.array([1, 0, 0, 1][: len(data)])
    thresholds = np.full(len(data), 0.5)
    options = {"readouts": ("own", "text", "image"), "batch_size": 3, **options}
    return diagnose(model, data, predicted, thresholds=thresholds, device="cpu", **options)


def samples_of(data):
    return data.samples.assign(cluster_id=data.samples["sample_id"], group_stratum=list("xxyy"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    found = encoded(tmp_path_factory.mktemp("data"), TEXTS)
    found.samples["label"] = [1, 1, 0, 0]
    return found


def test_records_have_every_map_head_and_layer(data):
    frame = diagnosed(data, "vilt_scratch")
    counts = frame.groupby("measure").size().to_dict()
    assert counts == {
        "entropy": 4 * 4 * 2,  # the model's, and its control's
        "cross_modal_mass": 4 * 4 * 3 * 2,
        "attention": 4 * 2 * 4,
        "logit": 4 * 3,
        "divergence": 4 * 3,
        "agreement": 4 * 3,
    }
    assert frame.groupby("sample_id")["outcome"].first().tolist() == ["TP", "FN", "TN", "FP"]
    of_heads = frame["measure"].isin(["entropy", "cross_modal_mass"])
    assert set(frame.loc[of_heads, "values"].map(len)) == {2}
    last = frame[(frame["measure"] == "attention") & (frame["layer"] == 4)]
    images = last[last["key"] == "image"]
    assert images["values"].map(len).tolist() == [9] * 4
    assert set(zip(images["grid_rows"], images["grid_columns"], strict=True)) == {(3, 3)}
    words = last[last["key"] == "text"]
    assert words["values"].map(len).tolist() == [3, 2, 1, 4]
    own = frame[(frame["readout"] == "own") & (frame["measure"] == "agreement")]
    assert all(values[-1] == 1 for values in own["values"])


def test_the_control_is_the_network_with_its_weights_in_random_order(data):
    torch.manual_seed(0)
    model = build_model("vilt_scratch", {"width": 8, "heads": 2, "image_size": 48}, data).eval()
    before = {name: values.clone() for name, values in model.state_dict().items()}
    settings = {"thresholds": np.full(4, 0.5), "batch_size": 3, "device": "cpu"}
    frame = diagnose(model, data, np.array([1, 0, 0, 1]), seed=5, **settings)
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())
    control = frame[frame["control"] == RANDOM]
    assert set(control["measure"]) == {"entropy", "cross_modal_mass"}
    with randomised(dict(model.named_parameters()), 5):
        alone = diagnose(model, data, np.array([1, 0, 0, 1]), **settings)
    expected = alone[(alone["control"] == "") & alone["measure"].isin(control["measure"])]
    keys = ["sample_id", "measure", "rows", "query", "key", "layer"]
    assert control[keys].to_numpy().tolist() == expected[keys].to_numpy().tolist()
    np.testing.assert_array_equal(np.stack(control["values"]), np.stack(expected["values"]))


def test_the_size_of_batches_changes_no_record(data):
    one, all_ = (diagnosed(data, "blip_scratch", batch_size=size) for size in (1, 4))
    keys = ["sample_id", "control", "measure", "rows", "query", "key", "layer", "readout"]
    one, all_ = (frame.sort_values(keys, kind="stable") for frame in (one, all_))
    assert one[keys].to_numpy().tolist() == all_[keys].to_numpy().tolist()
    for a, b in zip(one["values"], all_["values"], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_tables_are_means_of_the_records_and_say_what_does_not_apply(data):
    frame = pd.concat(
        diagnosed(data, name).assign(model=name, seed=0) for name in ("text_only", "vilt_scratch")
    )
    samples = samples_of(data)
    entropy = tabulate_attention(frame, samples, "entropy", **FEW)
    assert set(entropy["subset"]) == {"all", "TP", "TN", "FP", "FN", "x", "y"}
    own = frame[(frame["measure"] == "entropy") & (frame["model"] == "vilt_scratch")]
    heads = np.stack(own.loc[(own["layer"] == 2) & (own["control"] == ""), "values"])
    row = entropy[(entropy["model"] == "vilt_scratch") & (entropy["layer"] == 2)]
    row = row[(row["subset"] == "all") & (row["control"] == "")].set_index("head")
    assert row.loc[2, "value"] == pytest.approx(heads[:, 1].mean())
    assert row.loc["mean", "value"] == pytest.approx(heads.mean())
    assert (row["low"] < row["value"]).all()
    assert (row["value"] < row["high"]).all()
    mass = tabulate_attention(frame, samples, "cross_modal_mass", **FEW)
    alone = mass[mass["model"] == "text_only"].iloc[0]
    assert (alone["note"], alone["n"]) == (ONE_MODALITY, 0)
    assert pd.isna(alone["value"])
    assert set(mass.loc[mass["model"] == "vilt_scratch", "rows"]) == {"text", "image", "readout"}
    lens = tabulate_lens(frame, samples, **FEW)
    assert set(lens.loc[lens["value"].isna(), "note"]) == {
        "not applicable: the model reads no image"
    }
    last = lens[(lens["readout"] == "own") & (lens["measure"] == "agreement")]
    assert (last.loc[last["layer"] == last["layers"], "value"] == 1).all()
    depth = tabulate_depth(frame, samples, **FEW)
    own = depth[(depth["readout"] == "own") & (depth["subset"] == "all")]
    assert own["never"].tolist() == [0, 0]
    assert own["n"].tolist() == [4, 4]
    assert ((own["value"] >= 1) & (own["value"] <= own["layers"])).all()


def test_of_many_answers_the_best_one_decides():
    final = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
    early = torch.tensor([[5.0, 2.0, 1.0], [1.0, 0.0, 0.5]])
    lens = torch.stack([early, final])
    found = lens_records(lens, final, torch.tensor([1, 0]), None, "own")
    values = {facts["measure"]: values for facts, values in found}
    assert values["logit"].tolist() == [[2, 2], [1, 3]]
    assert values["agreement"].tolist() == [[0, 1], [1, 1]]
    p, q = final[0].softmax(0), early[0].softmax(0)
    assert values["divergence"][0, 0].item() == pytest.approx((p * (p / q).log()).sum().item())
    assert values["divergence"][:, 1].tolist() == pytest.approx([0, 0])


def test_readouts_are_checked_in_the_config():
    (problem,) = problems_of(config_with(diagnostics={"readouts": ["own", "text:-1", "sound"]}))
    assert problem.startswith("diagnostics.readouts")
    assert 'found "sound"' in problem


def agreements_of(*agreements):
    rows = [
        {"measure": "agreement", "readout": "text", "sample_id": f"{k}", "values": values}
        for k, values in enumerate(agreements)
    ]
    empty = {"outcome": "right", "note": "", "model": "m", "seed": 0}
    return pd.DataFrame(rows).assign(**empty)


def test_samples_that_never_decide_alike_or_have_no_token_are_no_part_of_the_mean():
    nan = [np.nan] * 3
    frame = agreements_of([0, 1, 1], [1, 1, 1], [1, 1, 0], nan)
    samples = pd.DataFrame({"sample_id": list("0123"), "cluster_id": list("0123")})
    table = tabulate_depth(frame, samples, **FEW).set_index("subset")
    assert table.loc["all", ["value", "n", "never", "layers"]].tolist() == [1.5, 2, 1, 3]
    nobody = tabulate_depth(agreements_of([1, 0, 0]), samples[:1], **FEW).set_index("subset")
    assert nobody.loc["all", ["n", "never"]].tolist() == [0, 1]
    assert pd.isna(nobody.loc["all", "value"])


def test_mean_maps_are_means_by_outcome_and_by_place():
    rows = [("TP", "text", 0, [1.0, 3.0]), ("TP", "text", 0, [3.0]), ("FN", "text", 0, [5.0])]
    rows += [("TP", "image", 2, [1.0, 2.0]), ("TP", "image", 2, [3.0, 2.0])]
    rows += [("TP", "image", 0, [9.0])]  # regions have no common place
    frame = pd.DataFrame(rows, columns=["outcome", "key", "grid_rows", "values"])
    frame["grid_columns"] = frame["grid_rows"] // 2
    frame = frame.assign(measure="attention", sample_id="a", layer=1)
    deeper = frame.assign(layer=2, values=[[v + 1 for v in own] for own in frame["values"]])
    found = mean_maps(pd.concat([deeper, frame]))
    assert set(found) == {("text", "TP"), ("text", "FN"), ("image", "TP")}
    values, counts, grid = found["text", "TP"]
    assert (values.tolist(), counts.tolist(), grid) == ([[2, 3], [3, 4]], [2, 1], None)
    values, counts, grid = found["image", "TP"]
    assert (values.tolist(), counts.tolist(), grid) == ([[2, 2], [3, 3]], [2, 2], (2, 1))


def test_outcomes_of_many_answers_are_right_and_wrong():
    samples = pd.DataFrame({"label": [2, 3], "label_name": "", "answers": "{}"})
    assert outcomes(samples, [2, 2]).tolist() == ["right", "wrong"]


@pytest.mark.parametrize("name", ["vilt_scratch", "blip_scratch", "text_only"])
def test_figures_and_tables_of_the_report_are_made_of_every_kind_of_model(data, name):
    frame = diagnosed(data, name).assign(model=name, seed=0)
    samples = samples_of(data)
    tables = [tabulate_attention(frame, samples, measure, **FEW)
              for measure in ("entropy", "cross_modal_mass")]  # fmt: skip
    tables += [tabulate_lens(frame, samples, **FEW), tabulate_depth(frame, samples, **FEW)]
    figures = [entropy_curves(tables[0], name), cross_modal_curves(tables[1], name)]
    figures += [logit_lens(tables[2], name), mean_attention(mean_maps(frame), name)]
    for figure in figures:
        figure.canvas.draw()
        plt.close(figure)
    said = "".join(text.get_text() for text in figures[1].axes[0].texts).replace("\n", " ")
    assert ("1 by construction" in said) == (name == "blip_scratch")
    assert ("one modality" in said) == (name == "text_only")
    shown = diagnostic_tables(tables)
    assert shown["depth"]["readout"].tolist() == ["own", "text", "image"]
    assert "layer 1" in shown["entropy"]
    assert all(len(table) for table in shown.values())
    assert diagnostic_tables([]) == {}


def test_an_outcome_of_one_sample_does_not_set_the_scale_of_mean_attention():
    often = np.full((1, 4), 0.25), np.full(4, 100), (2, 2)
    for n, expected in ((1, (0.25, "max")), (10, (1.0, "neither"))):
        rare = np.eye(1, 4), np.full(4, n), (2, 2)
        assert top({("image", "TP"): often, ("image", "FP"): rare}, "image") == expected


def test_a_network_without_attention_is_reported_as_such(data):
    model = Image(1, 1, width=8, image_size=48, architecture="resnet").eval()
    frame = diagnose(
        model, data, np.ones(4, int), thresholds=np.full(4, 0.5), batch_size=4, device="cpu"
    )
    assert set(frame["note"]) == {NO_MAPS, f"not applicable: {NO_LAYERS}"}
    assert set(frame["sample_id"]) == {""}
    frame = frame.assign(model="image", seed=0)
    tables = [tabulate_attention(frame, samples_of(data), "entropy", **FEW),
              tabulate_depth(frame, samples_of(data), **FEW)]  # fmt: skip
    assert [table["n"].tolist() for table in tables] == [[0], [0]]
    for figure in (entropy_curves(tables[0], "image"), mean_attention(mean_maps(frame), "image")):
        assert "not applicable" in figure.axes[0].texts[0].get_text().replace("\n", " ")
        plt.close(figure)
