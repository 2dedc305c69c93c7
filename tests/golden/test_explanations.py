"""Explanations and perturbation of METER against the published code (../shared).

The reference ran in single precision: what it stored of gradients is good to 1e-4. So the methods
are compared as functions of the stored arrays, and once more from pixels and words to the end.
"""

import copy
import json
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, SHARED
from safetensors.torch import save_file

from mmlens.explanation import METHODS
from mmlens.explanation.capture import AttentionMap, capture
from mmlens.explanation.spectral import GAP, fiedler
from mmlens.models import MODELS
from mmlens.models.base import Tokens
from mmlens.models.inputs import Batch
from mmlens.perturbation import engine

sys.path.insert(0, str(ROOT / "benchmarks"))

from plain_protocol import PlainMeter

FOLDER = SHARED / "golden/explanations"
TOLERANCE = 1e-5  # of the largest value
SINGLE = 2e-4  # the same for what depends on the reference's own gradients, in single precision
SAMPLES = [f"s{k}" for k in range(4)]
ANSWERS = 40
TIES = ("s13", "s14")  # samples whose relevance has ties, or is not a number

# Registered method and its arguments, by the names of the published code.
BASELINES = {
    "rm": ("relevance", {"preset": "published"}),
    "transformer_attr": ("transformer_attribution", {}),
    "raw_attn": ("raw_attention", {}),
    "attn_gradcam": ("attention_grad_cam", {}),
    "rollout": ("rollout", {"crosses": False}),
}
SPECTRAL = {
    "dsm": ("dsmi", {}),
    "dsm_grad": ("dsmi_grad", {}),
    "dsm_grad_cam": ("dsmi_grad_attn", {}),
    "dsm_grad_alllayers": ("dsmi_grad", {"layers": "all"}),
    "dsm_grad_cam_alllayers": ("dsmi_grad_attn", {"layers": "all"}),
}
SITES = [f"textenc/{k}" for k in range(4)]
SITES += [
    f"{site}/{k}"
    for k in range(3)
    for site in ("text_self", "text_cross", "image_self", "image_cross")
]
LAYERS_OF = {"dsm": [2], "dsm_grad": [0], "dsm_grad_cam": [0]}

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"{FOLDER} is missing")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The small model of the reference, in double precision."""
    folder = tmp_path_factory.mktemp("meter")
    arrays = dict(np.load(FOLDER / "model_small.npz"))
    meter = json.loads(bytes(arrays.pop("config_json")))
    save_file({name: torch.from_numpy(a) for name, a in arrays.items()}, folder / "w.safetensors")
    names = ("hidden_size", "num_top_layer", "num_heads", "mlp_ratio", "image_size", "patch_size")
    sizes = {name: meter[name] for name in names} | {"text_hidden_size": 32}
    sizes |= {"text_num_hidden_layers": 4, "text_num_attention_heads": 2, "vision_width": 64}
    sizes |= {"text_intermediate_size": 128, "text_max_position_embeddings": 64}
    sizes |= {"vision_layers": 3, "vision_heads": 1, "vocab_size": 120}
    (folder / "answers.json").write_text(json.dumps([str(k) for k in range(ANSWERS)]))
    options = {"outputs": ANSWERS, "sizes": sizes, "answers": folder / "answers.json"}
    options["image_tokens"] = "encoded"  # the published code explains what the tower gives
    return MODELS.get("meter")(120, 16, weights=folder / "w.safetensors", **options).double().eval()


@pytest.fixture(scope="module")
def golden():
    return np.load(FOLDER / "explain_small.npz")


@pytest.fixture(scope="module")
def seen(model, golden):
    """The capture of the four samples, all at once; first and last word are special."""
    ids, pixels, target = (
        torch.from_numpy(np.stack([golden[f"{sample}/{name}"] for sample in SAMPLES]))
        for name in ("text_ids", "image_pixels", "argmax")
    )
    valid = torch.ones(ids.shape, dtype=torch.bool)
    batch = Batch(ids.long(), valid, inner(valid), pixels.double(), torch.arange(len(SAMPLES)))
    return capture(model, batch, SAMPLES, target.long())


@pytest.fixture(scope="module")
def stored(seen, golden):
    """The same capture with the maps, gradients and features that the reference stored."""

    def of_all(name):
        return torch.from_numpy(np.stack([golden[f"{s}/{name}"] for s in SAMPLES])).double()

    maps = {}
    for site, m in zip(SITES, seen.maps, strict=True):
        a, g = of_all(f"attn/{site}"), of_all(f"grad/{site}")
        reduced = (a.mean(1), (a * g).relu().mean(1), g.relu().mean(1), m.layer_sensitivity)
        maps[id(m)] = AttentionMap(m.query, m.key, *reduced, heads=a, gradient=g)
    return replace(
        seen,
        steps=[tuple(maps[id(m)] for m in step) for step in seen.steps],
        layers={
            modality: [
                (of_all(f"feat/{modality}/{k}"), maps[id(m)]) for k, (_, m) in enumerate(layers)
            ]
            for modality, layers in seen.layers.items()
        },
    )


def inner(valid):
    """Content of texts (B, T) whose first and last token are special."""
    content = valid.clone()
    content[:, 0] = False
    content[torch.arange(len(valid)), valid.sum(1) - 1] = False
    return content


def deviation(found, expected):
    """Largest difference, relative to the largest expected value."""
    return np.abs(np.asarray(found) - expected).max() / np.abs(expected).max()


def test_maps_gradients_and_features_are_those_of_the_published_code(seen, golden):
    for row, sample in enumerate(SAMPLES):
        assert deviation(seen.logits[row], golden[f"{sample}/logits"]) < TOLERANCE
        for site, m in zip(SITES, seen.maps, strict=True):
            attention, gradient = (golden[f"{sample}/{kind}/{site}"] for kind in ("attn", "grad"))
            assert np.abs(m.attention[row].numpy() - attention.mean(0)).max() < TOLERANCE, site
            for found, expected in (
                (m.relevance, np.maximum(attention * gradient, 0).mean(0)),
                (m.sensitivity, np.maximum(gradient, 0).mean(0)),
            ):
                if expected.max() == 0:
                    assert (found[row] == 0).all(), site
                else:
                    assert deviation(found[row], expected) < SINGLE, site
        for modality in ("text", "image"):
            assert len(seen.layers[modality]) == 3
            for k, (features, m) in enumerate(seen.layers[modality]):
                expected = golden[f"{sample}/feat/{modality}/{k}"]
                assert deviation(features[row], expected) < TOLERANCE
                assert m is seen.maps[SITES.index(f"{modality}_self/{k}")]


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_are_those_of_the_published_code(seen, stored, golden, name):
    method, arguments = BASELINES[name]
    for capture_, tolerance in ((stored, TOLERANCE), (seen, SINGLE)):
        found = METHODS.get(method)(capture_, **arguments)
        for row, sample in enumerate(SAMPLES):
            for modality in ("text", "image"):
                expected = golden[f"{sample}/{name}/{modality}_relevance"]
                expected = expected[1:] if modality == "text" else expected
                values = found[modality][row, 1:]  # without the readout token, which has no rank
                assert expected.max() > 0
                assert deviation(values, expected) < tolerance, (sample, modality)


@pytest.mark.parametrize("name", SPECTRAL)
def test_spectral_methods_are_those_of_the_published_code(seen, stored, golden, name):
    """To the tolerance of the reference, whose solver is worse the closer the eigenvalues lie."""
    method, arguments = SPECTRAL[name]
    for capture_, base in ((stored, TOLERANCE), (seen, SINGLE)):
        found = METHODS.get(method)(capture_, **arguments)
        for row, sample in enumerate(SAMPLES):
            for modality in ("text", "image"):
                layers = LAYERS_OF.get(name, range(3))
                gap = min(gap_of(golden[f"{sample}/eig/{modality}/{k}/vals"]) for k in layers)
                assert gap > GAP
                assert found.flags[modality][row] == ""
                assert found.facts[modality]["eigengap"][row] == pytest.approx(gap, abs=1e-5)
                assert found.facts[modality]["components"][row] == 1
                expected = golden[f"{sample}/{name}/{modality}_relevance"]
                values = found[modality][row, 1 if modality == "image" else 0 :]
                tolerance = base + 5e-6 / gap
                assert deviation(values, expected) < tolerance, (sample, modality)
                if name == "dsm":
                    exact = golden[f"{sample}/eig/{modality}/2/fev64"]
                    assert deviation(values, exact) < tolerance


def gap_of(values):
    return min(values[1] - values[0], values[2] - values[1])


CASES = ["clusters2", "clusters4_64", "noCLS_16", "iid_196", "iid_64_smallgap", "zero_row"]
CASES = [f"image_{name}" for name in CASES] + [f"text_T{n}" for n in (6, 7, 8, 12, 20)]
FLAGS = {
    "image_disconnected2": "2 components",
    "image_all_equal": "eigengap",
    "text_T4": "2 tokens",
    "text_T5": "3 tokens",
    "text_nan": "features not finite",
}


def case(name):
    """Features (1, N, D) and content (1, N) of a case of the reference, and its arrays."""
    cases = np.load(FOLDER / "dsm_cases.npz")
    features = torch.from_numpy(cases[f"{name}/feats"])[None]
    content = torch.ones(features.shape[:2], dtype=torch.bool)
    if name.startswith("text"):
        content = inner(content)
    elif name != "image_noCLS_16":
        content[:, 0] = False
    return features, content, cases


@pytest.mark.parametrize("name", CASES)
def test_fiedler_vectors_are_those_of_an_exact_solver(name):
    features, content, cases = case(name)
    graph = fiedler(features, content)
    gap = gap_of(cases[f"{name}/vals"])
    assert graph.flags == [""]
    assert graph.eigengap.item() == pytest.approx(gap, abs=1e-6)
    found = graph.vector.abs()[0].numpy()
    exact = cases[f"{name}/fev64"]
    found = found if name.startswith("text") else found[content[0].numpy()]
    assert deviation(found, exact) < TOLERANCE + 5e-6 / gap
    for draw in cases[f"{name}/ref_draws"]:
        assert deviation(found, draw) < TOLERANCE + 5e-6 / gap


@pytest.mark.parametrize("name", FLAGS)
def test_where_the_published_code_is_ill_defined_a_flag_is_raised(name):
    features, content, _ = case(name)
    graph = fiedler(features, content)
    assert graph.flags == [FLAGS[name]]
    assert (graph.vector == 0).all()


@pytest.fixture(scope="module")
def perturbed():
    return np.load(FOLDER / "pert_small.npz")


def padded(arrays):
    """Arrays (T, D) of several lengths as one tensor (B, T, D) and its valid tokens."""
    longest = max(map(len, arrays))
    valid = torch.tensor([[k < len(a) for k in range(longest)] for a in arrays])
    stacked = np.stack([np.pad(a, ((0, longest - len(a)), (0, 0))) for a in arrays])
    return torch.from_numpy(stacked).double(), valid


def test_perturbation_by_the_published_protocol_gives_the_published_answers(
    model, perturbed, monkeypatch
):
    """All samples at once, each with the removal orders of the reference."""
    names = sorted({key.split("/")[0] for key in perturbed.files if "/" in key} - set(TIES))
    text, valid = padded([perturbed[f"{name}/text_emb"] for name in names])
    image, shown = padded([perturbed[f"{name}/vit_out"] for name in names])
    content = shown.clone()
    content[:, 0] = False
    network = model.network
    with torch.no_grad():  # what METER makes of the tower's last states
        image = network.cross_modal_image_transform(image) + network.token_type_embeddings.weight[1]
    tokens = {"text": Tokens(text, valid, inner(valid)), "image": Tokens(image, shown, content)}
    attributions = pd.DataFrame(
        {
            "sample_id": names,
            "method": "given",
            "image": [perturbed[f"{name}/cam_image"][1:] for name in names],
            "text": [perturbed[f"{name}/cam_text"][1:-1] for name in names],
        }
    )
    steps = [0, 0.25, 0.5, 0.75, 0.8, 0.85, 0.9, 0.95, 1]
    np.testing.assert_allclose(perturbed["pert_steps"], steps, rtol=1e-6)

    def judge(logits, _rows):
        top = logits.topk(2).values
        return np.stack([logits.argmax(1), top[:, 0] - top[:, 1], logits.std(1)], 1)

    monkeypatch.setattr(engine, "judge_of", lambda samples, answers: judge)
    found = engine.perturb(
        model,
        tokens,
        attributions,
        pd.DataFrame({"sample_id": names}),
        steps=steps,
        protocol="published",
        batch_size=100,
    ).set_index(["sample_id", "modality", "direction"])
    compared = 0
    for name in names:
        for modality in ("image", "text"):
            for direction, short in (("positive", "pos"), ("negative", "neg")):
                own = found.loc[(name, modality, direction)].sort_values("fraction")
                golden = {
                    key: perturbed[f"{name}/{modality}_{short}/{key}"]
                    for key in ("argmax", "margin", "logits")
                }
                clear = golden["margin"] >= 1e-3 * golden["logits"].std(1)
                assert (own["accuracy"].to_numpy() == golden["argmax"])[clear].all(), name
                compared += clear.sum()
    assert compared > 0.95 * len(names) * 4 * len(steps)


@pytest.fixture(scope="module")
def plain(model):
    """The baseline of the benchmark, in the precision of the reference."""
    return PlainMeter(copy.deepcopy(model).float())


@pytest.mark.parametrize("name", BASELINES | {"dsm": 0, "dsm_grad": 0, "dsm_grad_cam": 0})
def test_the_plain_loop_of_the_benchmark_explains_as_the_published_code(plain, golden, name):
    method, _ = (BASELINES | SPECTRAL)[name]
    for sample in SAMPLES:
        ids, pixels = (
            torch.from_numpy(golden[f"{sample}/{k}"]) for k in ("text_ids", "image_pixels")
        )
        found = plain.explain((ids[None].long(), pixels[None]), method)
        for modality, values in zip(("text", "image"), found, strict=True):
            gap = 1
            if name in LAYERS_OF:
                gap = gap_of(golden[f"{sample}/eig/{modality}/{LAYERS_OF[name][0]}/vals"])
            expected = golden[f"{sample}/{name}/{modality}_relevance"]
            # The readout token has no rank, and vectors of the plain solver have any length.
            values, expected = values[1:], expected[1:] if modality == "text" else expected
            if name in LAYERS_OF:
                values, expected = values / values.max(), expected / expected.max()
            assert deviation(values.detach(), expected) < SINGLE + 5e-6 / gap, (sample, modality)


def test_the_plain_loop_of_the_benchmark_gives_the_published_answers(plain, perturbed, monkeypatch):
    monkeypatch.setattr(plain, "embed", lambda sample: sample)
    names = sorted({key.split("/")[0] for key in perturbed.files if "/" in key} - set(TIES))
    for name in names:
        sample = [torch.from_numpy(perturbed[f"{name}/{k}"])[None] for k in ("text_emb", "vit_out")]
        for modality, inner_ in (("text", slice(1, -1)), ("image", slice(1, None))):
            order = perturbed[f"{name}/cam_{modality}"][inner_].argsort(kind="stable")
            for short, own in (("pos", order), ("neg", order[::-1])):
                stored = {
                    key: perturbed[f"{name}/{modality}_{short}/{key}"]
                    for key in ("argmax", "margin", "logits")
                }
                clear = stored["margin"] >= 1e-3 * stored["logits"].std(1)
                answers = np.array(plain.perturb(sample, own, modality))
                assert (answers == stored["argmax"])[clear].all(), name
