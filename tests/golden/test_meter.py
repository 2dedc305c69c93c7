"""METER against reference runs of the published code (../shared)."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import SHARED
from safetensors.torch import save_file
from torch import nn

from mmlens.explanation.capture import capture, recorded
from mmlens.models import MODELS, meter_network
from mmlens.models.inputs import Batch
from mmlens.models.layers import DotProductAttention
from mmlens.models.meter_config import MeterConfig
from mmlens.models.meter_network import MeterNetwork, QuickGELU
from mmlens.models.meter_weights import UNUSED, load_meter, resized_positions

FOLDER = SHARED / "golden/models/meter"
TINY = FOLDER / "tiny"
TOLERANCE = 1e-5
PARAMETERS = 327_200_825  # of the published VQA model, those that it never reads included

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"{FOLDER} is missing")


def config_of(settings, **sizes):
    """The `MeterConfig` of a reference's config file."""
    meter, roberta, clip = (settings[name] for name in ("meter", "roberta", "clip"))
    names = ("vocab_size", "hidden_size", "num_top_layer", "num_heads", "mlp_ratio", "drop_rate")
    own = {name: meter[name] for name in (*names, "image_size", "patch_size")}
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    names += ("max_position_embeddings", "type_vocab_size", "layer_norm_eps")
    own |= {f"text_{name}": roberta[name] for name in names}
    own |= {f"vision_{name}": clip[f"vision_{name}"] for name in ("width", "layers")}
    own |= {"vision_heads": clip["vision_width"] // 64, "pad_token_id": roberta["pad_token_id"]}
    own["layer_norm_eps"] = settings["cross_layers"]["layer_norm_eps"]
    return MeterConfig(**{**own, **sizes})


@pytest.fixture(scope="module")
def settings():
    return json.loads((TINY / "config.json").read_text())


@pytest.fixture(scope="module")
def inputs():
    return {name: torch.from_numpy(value) for name, value in np.load(TINY / "inputs.npz").items()}


@pytest.fixture(scope="module")
def outputs():
    return dict(np.load(TINY / "outputs.npz"))


@pytest.fixture
def network(settings):
    """The small network with its weights; of the file only what METER never reads is left over."""
    network = MeterNetwork(config_of(settings), answers=settings["meter"]["vqav2_label_size"])
    report = load_meter(network, TINY / "weights.safetensors")
    assert (report.missing, report.renamed, report.adapted) == ((), {}, ())
    assert len(report.unexpected) == 6
    assert all(name.startswith(UNUSED) for name in report.unexpected)
    return network.eval()


@torch.no_grad()
def run(network, inputs, settings, eager=True):
    """{name of the reference: array} of all that the network computes."""
    valid, shown = inputs["text_masks"].bool(), torch.ones(2, 26, dtype=torch.bool)
    for module in network.modules():
        if isinstance(module, DotProductAttention):
            module.eager = eager
    layers, leaves = {}, {}
    for k, layer in enumerate(network.text_layers):
        layers[f"text_layer_{k}"] = layer
        leaves[f"text_layer_{k}_attn_probs"] = layer.probabilities
    for k, block in enumerate(network.visual.transformer["resblocks"]):
        layers[f"vit_block_{k}_LND"] = block
    for k, pair in enumerate(network.pairs()):
        for stream, layer in zip(("text", "image"), pair, strict=True):
            layers[f"cross_{stream}_{k}"] = layer
            leaves[f"cross_{stream}_{k}_self_attn_probs"] = layer.probabilities
            cross = layer.crossattention["self"].probabilities
            leaves[f"cross_{stream}_{k}_cross_attn_probs"] = cross
    layers |= {"vit_output": network.visual, "text_projected": network.cross_modal_text_transform}
    layers["image_projected"] = network.cross_modal_image_transform
    with recorded([*layers.values(), *leaves.values()]) as seen:
        found = {
            "text_embeddings": network.text_transformer["embeddings"](inputs["text_ids"], valid)
        }
        text = network.encode_text(found["text_embeddings"], valid)
        image = network.encode_image(network.visual.embed(inputs["image"]), shown)
        text, image = network.join(text, valid, image, shown)
    found |= {name: seen[layer][0] for name, layer in layers.items()}
    found |= {n: found[n].transpose(0, 1) for n in found if n.endswith("LND")}
    if eager:
        found |= {name: seen[leaf][0] for name, leaf in leaves.items()}
    found |= {"text_feats": text, "image_feats": image, "cls_feats": network.fuse(text, image)}
    found["pooled_text"], found["pooled_image"] = found["cls_feats"].chunk(2, -1)
    logits = found["vqa_logits"] = network.vqa_classifier(found["cls_feats"])
    targets = found["vqa_targets"] = torch.zeros_like(logits)
    for row, (labels, scores) in enumerate(
        zip(settings["vqa_labels_for_loss"], settings["vqa_scores_for_loss"], strict=True)
    ):
        targets[row, labels] = torch.tensor(scores)
    found["vqa_loss"] = F.binary_cross_entropy_with_logits(logits, targets) * logits.shape[1]
    return {name: value.numpy() for name, value in found.items()}


@pytest.mark.parametrize("eager", [True, False], ids=["eager", "fused"])
def test_every_array_of_the_reference_is_reproduced(network, settings, inputs, outputs, eager):
    found = run(network, inputs, settings, eager)
    maps = {name for name in outputs if name.endswith("attn_probs")}
    positions = {name for name in outputs if name.startswith("posenc")}
    assert set(outputs) - set(found) == (positions if eager else positions | maps)
    assert len(maps) == 2 + 2 * 4
    for name in set(outputs) & set(found):
        assert found[name].shape == outputs[name].shape, name
        np.testing.assert_allclose(found[name], outputs[name], rtol=0, atol=TOLERANCE, err_msg=name)


def norms_of(modules, eps):
    for norm in (m for module in modules for m in module.modules()):
        if isinstance(norm, nn.LayerNorm):
            norm.eps = eps


def cross_epsilon(network, monkeypatch):
    norms_of([layer for pair in network.pairs() for layer in pair], 1e-5)


def text_epsilon(network, monkeypatch):
    norms_of([network.text_transformer], 1e-12)


def exact_gelu(network, monkeypatch):
    monkeypatch.setattr(QuickGELU, "forward", lambda self, x: F.gelu(x))


def swapped_types(network, monkeypatch):
    types = network.token_type_embeddings
    types.weight = nn.Parameter(types.weight.flip(0))


def one_stream_after_the_other(network, monkeypatch):
    def join(self, text, text_valid, image, image_valid):
        for by_text, by_image in self.pairs():
            text = by_text(text, text_valid, image, image_valid)
            image = by_image(image, image_valid, text, text_valid)
        return text, image

    monkeypatch.setattr(MeterNetwork, "join", join)


def own_mask_across(network, monkeypatch):
    forward = meter_network.Layer.forward

    def unmasked(self, x, valid, context=None, context_valid=None, read=None):
        everything = None if context is None else torch.ones_like(context_valid)
        return forward(self, x, valid, context, everything, read)

    monkeypatch.setattr(meter_network.Layer, "forward", unmasked)


def positions_from_zero(network, monkeypatch):
    network.text_transformer["embeddings"].first = 0


# How far off the logits are at least: the first four by the README of the reference.
MISTAKES = {
    cross_epsilon: 1.6e-3,
    text_epsilon: 8e-4,
    exact_gelu: 4e-3,
    swapped_types: 0.7,
    one_stream_after_the_other: 0.05,
    own_mask_across: 0.01,
    positions_from_zero: 0.05,
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_mistakes_do_not_pass(network, settings, inputs, outputs, mistake, monkeypatch):
    mistake(network, monkeypatch)
    found = run(network, inputs, settings)
    assert np.abs(found["vqa_logits"] - outputs["vqa_logits"]).max() > MISTAKES[mistake]


@pytest.mark.parametrize("pair", ["3to5", "14to36", "18to24", "24to14", "36to36"])
def test_position_tables_are_resized_as_published(inputs, outputs, pair):
    side = int(pair.split("to")[1])
    found = resized_positions(inputs[f"posenc_in_{pair}"], (side, side))
    np.testing.assert_allclose(found, outputs[f"posenc_out_{pair}"], rtol=0, atol=TOLERANCE)


def test_a_table_of_another_grid_is_resized_on_load(tmp_path, settings, network):
    other = MeterNetwork(config_of(settings, image_size=56), answers=17)
    report = load_meter(other, TINY / "weights.safetensors")
    assert report.adapted == ("vit_model.visual.positional_embedding",)
    assert "made to fit: vit_model.visual.positional_embedding" in str(report)
    expected = resized_positions(network.visual.positional_embedding, (7, 7))
    assert torch.equal(other.visual.positional_embedding, expected)
    assert len(expected) == 1 + 7 * 7


MANIFESTS = {
    "keys": (("answers",), 576),
    "keys_at_release_tag": (("answers",), 576),
    "keys_pretrain_288": (("words", "matching"), 288),
}


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_full_size_networks_have_the_names_and_shapes_of_the_published_files(manifest):
    """All but the tensors that the published code never reads, which a report lists."""
    wanted = json.loads((FOLDER / f"{manifest}.json").read_text())
    heads, side = MANIFESTS[manifest]
    with torch.device("meta"):
        network = MeterNetwork(MeterConfig(image_size=side), heads)
    found = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    unused = {name: shape for name, shape in wanted.items() if name.startswith(UNUSED)}
    assert found | unused == wanted
    assert len(unused) == (7 if "tag" in manifest else 6)
    if manifest == "keys":
        del unused["text_transformer.embeddings.position_ids"]  # a buffer
        left_out = sum(int(np.prod(shape)) for shape in unused.values())
        assert sum(p.numel() for p in network.parameters()) + left_out == PARAMETERS


MAPS = SHARED / "golden/explanations"


@pytest.mark.skipif(not MAPS.is_dir(), reason=f"{MAPS} is missing")
def test_attention_maps_and_their_gradients_are_those_of_the_published_code(tmp_path):
    """Of a small VQA model with weights of its own, at the explained answer."""
    arrays = dict(np.load(MAPS / "model_small.npz"))
    meter = json.loads(bytes(arrays.pop("config_json")))
    save_file({name: torch.from_numpy(a) for name, a in arrays.items()}, tmp_path / "w.safetensors")
    names = ("hidden_size", "num_top_layer", "num_heads", "mlp_ratio", "image_size", "patch_size")
    sizes = {name: meter[name] for name in names} | {"text_hidden_size": 32}
    sizes |= {"text_num_hidden_layers": 4, "text_num_attention_heads": 2, "vision_width": 64}
    sizes |= {"text_intermediate_size": 128, "text_max_position_embeddings": 64}
    sizes |= {"vision_layers": 3, "vision_heads": 1, "vocab_size": 120}
    names = tmp_path / "answers.json"
    names.write_text(json.dumps([str(k) for k in range(40)]))
    options = {"outputs": 40, "sizes": sizes, "answers": names}
    model = MODELS.get("meter")(120, 8, weights=tmp_path / "w.safetensors", **options)
    golden = np.load(MAPS / "explain_small.npz")
    samples = [f"s{k}" for k in range(4)]
    ids, pixels, target, logits = (
        torch.from_numpy(np.stack([golden[f"{sample}/{name}"] for sample in samples]))
        for name in ("text_ids", "image_pixels", "argmax", "logits")
    )
    shown = torch.ones(ids.shape, dtype=torch.bool)
    batch = Batch(ids.long(), shown, shown, pixels.double(), torch.arange(4))
    seen = capture(model.double().eval(), batch, samples, target.long())
    torch.testing.assert_close(seen.logits, logits.double(), rtol=1e-5, atol=TOLERANCE)
    towers = [m for step in seen.steps[2:6] for m in step]  # after the two layers of patches
    sites = [f"textenc/{k}" for k in range(4)]
    for k, step in enumerate(seen.steps[6:]):
        towers += step
        sites += [
            f"{site}/{k}" for site in ("text_self", "text_cross", "image_self", "image_cross")
        ]
    assert len(sites) == len(towers) == 4 + 3 * 4
    for site, found in zip(sites, towers, strict=True):
        for row, sample in enumerate(samples):
            attention, gradient = (golden[f"{sample}/{kind}/{site}"] for kind in ("attn", "grad"))
            relevance = np.maximum(attention * gradient, 0).mean(0)
            error = np.abs(found.attention[row].numpy() - attention.mean(0)).max()
            assert error < TOLERANCE, site
            error = np.abs(found.relevance[row].numpy() - relevance).max()
            # Gradients of the reference are those of float32.
            assert error < 2e-4 * max(relevance.max(), 0.01), site
