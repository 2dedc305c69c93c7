"""ViLBERT against reference runs of Facebook's and MMF's published code (../shared)."""

import json

import numpy as np
import pytest
import torch
from conftest import SHARED
from safetensors.torch import load_file
from torch import nn

from mmlens.explanation.capture import recorded
from mmlens.features.boxes import lxmert_boxes
from mmlens.models import vilbert_network
from mmlens.models.layers import DotProductAttention
from mmlens.models.vilbert_config import VilbertConfig
from mmlens.models.vilbert_network import (
    HEADS,
    PRETRAINING,
    CoAttention,
    Pooler,
    VilbertNetwork,
    with_global_region,
)
from mmlens.models.vilbert_weights import HEADS as PREFIXES
from mmlens.models.vilbert_weights import load_vilbert, published_name

FOLDER = SHARED / "golden/models/vilbert"
TINY = FOLDER / "tiny"
TOLERANCE = 1e-5
TRUNK = 246_726_656  # parameters

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"{FOLDER} is missing")


@pytest.fixture(scope="module")
def settings():
    return json.loads((TINY / "config.json").read_text())


@pytest.fixture(scope="module")
def inputs():
    return {name: torch.from_numpy(value) for name, value in np.load(TINY / "inputs.npz").items()}


@pytest.fixture(scope="module")
def outputs():
    return dict(np.load(TINY / "outputs.npz"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """{source: path} of the small weights as each source writes them."""
    folder = tmp_path_factory.mktemp("vilbert")
    state, extra = (
        load_file(TINY / f"{name}.safetensors") for name in ("weights", "weights_extra")
    )
    trunk = {name: value for name, value in state.items() if name.startswith("bert.")}
    classifier = {n: value for n, value in extra.items() if n.startswith("classifier.")}
    tasks = {n: value for n, value in extra.items() if n not in classifier}
    mmf = {f"model.{name}": value for name, value in {**trunk, **classifier}.items()}
    torch.save({"model": mmf, "best_update": 3000}, folder / "mmf.pth")
    torch.save({"model_state_dict": {**state, **tasks}}, folder / "tasks.bin")
    return {
        "fb": TINY / "weights.safetensors",
        "mt": folder / "tasks.bin",
        "mmf": folder / "mmf.pth",
    }


def network_of(source, files, settings, **sizes):
    """The network of one of the sources with its small weights."""
    heads = ("classifier",) if source == "mmf" else PRETRAINING
    tasks = {"task_count": 20} if source == "mt" else {}
    network = VilbertNetwork(VilbertConfig.from_dict({**settings, **tasks, **sizes}), heads)
    report = load_vilbert(network, files[source])
    assert (report.missing, report.unexpected) == ((), ())
    return network.eval()


@pytest.fixture
def networks(files, settings):
    return {source: network_of(source, files, settings) for source in files}


def regions_of(inputs, global_region):
    """Features, places and valid of the region stream, from boxes in pixels."""
    boxes = [
        lxmert_boxes(boxes.numpy(), *size)
        for boxes, size in zip(inputs["region_boxes"], inputs["image_wh"].tolist(), strict=True)
    ]
    boxes = torch.from_numpy(np.stack(boxes))
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1, keepdim=True)
    features, places = inputs["region_features"], torch.cat([boxes, area], -1)
    valid = torch.arange(features.shape[1]) < inputs["num_boxes"][:, None]
    return (
        with_global_region(features, places, valid) if global_region else (features, places, valid)
    )


@torch.no_grad()
def run(network, source, inputs, eager=True):
    """{name of the reference: array} of all that a source's network computes."""
    features, places, valid = regions_of(inputs, global_region=source != "mmf")
    found = {f"{source}_region_locations": places, f"{source}_region_mask": valid.long()}
    tasks, text_valid = None, inputs["attention_mask"].bool()
    if source == "fb":
        found["fb_global_feature"] = features[:, 0]
    if source == "mt":
        tasks, text_valid = inputs["task_ids"][:, 0], torch.cat([valid[:, :1], text_valid], 1)
    trunk = network.bert
    text = trunk.embeddings(inputs["input_ids"], inputs["token_type_ids"], tasks)
    regions = trunk.v_embeddings(features, places)
    found |= {f"{source}_embeddings_t": text, f"{source}_embeddings_v": regions}
    leaves = leaves_of(trunk.encoder)
    exchanges = list(trunk.encoder.c_layer)
    for module in network.modules():
        if isinstance(module, DotProductAttention):
            module.eager = eager
    with recorded([*leaves.values(), *exchanges]) as outputs:
        text, regions = trunk(text, text_valid, regions, valid)
    if eager:
        found |= {f"{source}_{name}": outputs[leaf][0] for name, leaf in leaves.items()}
    for k, exchange in enumerate(exchanges):
        names = (f"{source}_after_block{k}_t", f"{source}_after_block{k}_v")
        found |= dict(zip(names, outputs[exchange][0], strict=True))
    found |= {f"{source}_sequence_t": text, f"{source}_sequence_v": regions}
    found[f"{source}_pooled_t"] = trunk.t_pooler(text)
    found[f"{source}_pooled_v"] = trunk.v_pooler(regions)
    fused = network.fuse(text, regions)
    if source == "mmf":
        found["mmf_scores"] = network.classifier(fused)
    else:
        found[f"{source}_lm_scores"] = network.cls["predictions"](text)
        found[f"{source}_region_scores"] = network.cls["imagePredictions"](regions)
        found[f"{source}_alignment_scores"] = network.cls["bi_seq_relationship"](fused)
    return {name: value.numpy() for name, value in found.items()}


def leaves_of(encoder):
    """{name in the reference, without its source: leaf that the attention map passes}."""
    leaves = {f"attn_text_layer{k}": x.probabilities for k, x in enumerate(encoder.layer)}
    leaves |= {f"attn_visual_layer{k}": x.probabilities for k, x in enumerate(encoder.v_layer)}
    for k, exchange in enumerate(encoder.c_layer):
        attention = exchange.biattention
        leaves[f"coattn{k}_text_queries_over_regions"] = attention.text_reads.probabilities
        leaves[f"coattn{k}_region_queries_over_text"] = attention.regions_read.probabilities
    return leaves


def distance(found, outputs, name):
    """The largest difference of one array from the reference."""
    return np.abs(found[name] - outputs[name]).max()


@pytest.mark.parametrize("eager", [True, False], ids=["eager", "fused"])
def test_every_array_of_the_reference_is_reproduced(
    networks, files, settings, inputs, outputs, eager
):
    found = {}
    for source, network in networks.items():
        found |= run(network, source, inputs, eager)
    summed = network_of("mmf", files, settings, fusion_method="sum")
    found["mmf_scores_if_sum"] = run(summed, "mmf", inputs)["mmf_scores"]
    maps = {name for name in outputs if "attn" in name}
    assert set(outputs) - set(found) == (set() if eager else maps)
    assert len(maps) == 4 + 2 + 2 * 2
    for name in set(outputs) & set(found):
        assert found[name].shape == outputs[name].shape, name
        np.testing.assert_allclose(found[name], outputs[name], rtol=0, atol=TOLERANCE, err_msg=name)


def other_epsilon(network, monkeypatch):
    for module in network.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-5


def tanh_poolers(network, monkeypatch):
    monkeypatch.setattr(Pooler, "forward", lambda self, x: self.dense(x[:, 0]).tanh())


def tanh_gelu(network, monkeypatch):
    exact = vilbert_network.F.gelu
    monkeypatch.setattr(vilbert_network.F, "gelu", lambda x: exact(x, approximate="tanh"))


def q_dense(network, monkeypatch):
    for exchange in network.bert.encoder.c_layer:
        output = exchange.biOutput
        output.dense1, output.dense2 = output.q_dense1, output.q_dense2


def region_layers_before_exchanges(network, monkeypatch):
    for layer, place in ((0, 2), (1, 5)):
        move(network.bert.encoder.order, ("regions", layer), place)


def text_layer_after_exchange(network, monkeypatch):
    move(network.bert.encoder.order, ("text", 1), 2)


def move(order, step, place):
    order.remove(step)
    order.insert(place, step)


def exchange_one_after_the_other(network, monkeypatch):
    outputs = {x.biattention: x.biOutput for x in network.bert.encoder.c_layer}
    both = CoAttention.forward

    def forward(self, text, text_valid, regions, regions_valid):
        output = outputs[self]
        by_text, _ = both(self, text, text_valid, regions, regions_valid)
        text = output.LayerNorm2(output.dense2(by_text) + text)
        return by_text, both(self, text, text_valid, regions, regions_valid)[1]

    monkeypatch.setattr(CoAttention, "forward", forward)


def no_region_mask(network, monkeypatch):
    steps = network.bert.encoder.forward
    network.bert.encoder.forward = lambda text, text_valid, regions, valid: steps(
        text, text_valid, regions, torch.ones_like(valid)
    )


# How far off the pooled streams are at least: the first five by the README of the reference.
MISTAKES = {
    other_epsilon: 5e-3,
    region_layers_before_exchanges: 1.7,
    tanh_poolers: 1.2,
    q_dense: 2.2,
    tanh_gelu: 7e-4,
    text_layer_after_exchange: 1,
    exchange_one_after_the_other: 1,
    no_region_mask: 1,
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_mistakes_do_not_pass(networks, inputs, outputs, mistake, monkeypatch):
    mistake(networks["fb"], monkeypatch)
    found = run(networks["fb"], "fb", inputs)
    assert max(distance(found, outputs, f"fb_pooled_{s}") for s in "tv") > MISTAKES[mistake]


MANIFESTS = {
    "keys": (PRETRAINING, 0, 250_044_029),
    "keys_multitask": (HEADS[:4], 20, 268_028_859),
    "keys_mmf_hateful_memes": (("classifier",), 0, 247_780_354),
    "keys_mmf_pretrained_cc": (PRETRAINING, 0, 250_044_029),
}


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_full_size_networks_have_the_names_and_shapes_of_the_published_files(manifest):
    wanted = json.loads((FOLDER / f"{manifest}.json").read_text())
    heads, tasks, parameters = MANIFESTS[manifest]
    with torch.device("meta"):
        network = VilbertNetwork(VilbertConfig(task_count=tasks), heads)
    prefix = "model." if "mmf" in manifest else ""
    found = {f"{prefix}{name}": list(t.shape) for name, t in network.state_dict().items()}
    assert found == wanted
    assert {published_name(name) for name in wanted} == set(network.state_dict())
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert sum(p.numel() for p in network.bert.parameters()) == TRUNK + 768 * tasks
    assert all(published_name(name).startswith(("bert.", *PREFIXES)) for name in wanted)
