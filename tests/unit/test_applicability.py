"""Every method on every model: a map that means something, or the reason why there is none."""

from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from stock_checkpoints import save_clip
from stock_samples import write_samples
from test_explanation import COUNT, QUICK, captured, close, make_batch, make_model

from mmlens.datasets.vocabulary import train_tokenizer
from mmlens.explanation import METHODS, NotApplicableError, register_method
from mmlens.explanation.capture import capture
from mmlens.explanation.explain import explain, method_maps
from mmlens.explanation.missing import tabulate_missing
from mmlens.figures.attributions import attribution_grid
from mmlens.models import MODELS, build_model, input_spec
from mmlens.models.inputs import EncodedSamples
from mmlens.table import write_parquet

torch.set_num_threads(1)

OUTPUTS = 3  # of two labels, whose logits differ in sign, norms of gradients do not tell them apart
FIRST = torch.tensor([0, 1, 2, 0, 1])
SECOND = (FIRST + 1) % OUTPUTS
ATTENTION = {
    *("raw_attention", "rollout", "attention_grad_cam", "relevance", "transformer_attribution"),
    *("legrad", "reversed"),
}
SPECTRAL = {"dsmi", "dsmi_grad", "dsmi_grad_attn"}
MODELS_BUILT = {
    name: (name, {})
    for name in MODELS.names()
    if MODELS.attribute(name, "explained", True)
    and name not in ("image", "clip_mlp", "blip_contrastive")  # the last has one logit, of pairs
}
MODELS_BUILT |= {kind: ("image", {"architecture": kind}) for kind in ("vit", "resnet")}
for reads in ("text", "image", "both"):
    MODELS_BUILT[f"clip_mlp_{reads}"] = ("clip_mlp", {"reads": reads})
MODELS_BUILT["gpt2"] = ("text", {"architecture": "gpt2"})
MISSING = {"resnet": ATTENTION | SPECTRAL}


def shaken(model):
    """A model none of whose parameters is 0 or 1, as fresh norms and biases are."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.double().eval()


def new_model(name, folder):
    """A small model of three outputs, and a batch for it."""
    entry, options = MODELS_BUILT[name]
    torch.manual_seed(0)
    if entry == "clip_mlp":
        save_clip(folder)
        settings = {"weights": str(folder), **options}
        data = EncodedSamples(write_samples(folder, WORDS), input_spec(entry, settings, None))
        data.outputs, data.answers = OUTPUTS, None
        batch = data.batch(torch.arange(COUNT))
        batch.image = batch.image.double()
        return shaken(MODELS.get(entry)(30, 20, **settings, outputs=OUTPUTS)), batch
    model = MODELS.get(entry)
    sizes = {"vocabulary_size": 20, "max_length": 12, "width": 8, "heads": 2, "image_size": 48}
    features = {"features": SimpleNamespace(width=6, grid=None)} if model.frozen else {}
    model = model(**sizes, **features, **options, outputs=OUTPUTS)
    return shaken(model), make_batch(frozen=model.frozen)


WORDS = ["red blue", "a", "", "the ring is blue", "no ball"]


@pytest.mark.parametrize("name", MODELS_BUILT)
def test_every_method_gives_a_map_that_means_something_or_says_why_not(name, tmp_path):
    model, batch = new_model(name, tmp_path)
    ids = [f"sample-{k}" for k in range(COUNT)]
    seen = [capture(model, batch, ids, target) for target in (FIRST, SECOND)]
    content = seen[0].layout.content
    assert set(content) == set(model.modalities)
    missing = set()
    for method in METHODS.names():
        try:
            first, second = (method_maps(method, each, QUICK) for each in seen)
        except NotApplicableError:
            missing.add(method)
            continue
        specific = METHODS.attribute(method, "class_specific")
        for modality, shown in content.items():
            maps, flags = (first[modality], second[modality]), first.flags.get(modality, [])
            assert all(torch.isfinite(values).all() for values in maps), (method, modality)
            assert all((values[~shown] == 0).all() for values in maps), (method, modality)
            told = any(v[k][shown[k]].unique().numel() > 1 for v in maps for k in range(COUNT))
            assert told or (flags and all(flags)), (method, modality)
            changed = not torch.allclose(*maps, rtol=1e-6, atol=1e-12)
            assert changed == specific or not told, (method, modality)
    assert missing == MISSING.get(name, set())


@contextmanager
def known(name):
    """A method that this module registers is known inside the block."""
    METHODS.declared[name] = (__name__, {})
    try:
        yield
    finally:
        del METHODS.declared[name], METHODS.entries[name]


def test_a_method_that_returns_less_than_the_model_reads_is_an_error():
    @register_method("half", class_specific=False)
    def half(capture):
        return {"text": capture.layout.content["text"].double()}

    with known("half"), pytest.raises(ValueError, match=r"method half: returned .*, expected"):
        method_maps("half", captured(make_model("clip_scratch")), {})


def test_maps_without_an_order_are_an_error():
    @register_method("undefined", class_specific=False)
    def undefined(capture):
        maps = {m: c.double() for m, c in capture.layout.content.items()}
        maps["image"][1, 3] = torch.nan
        return maps

    with (
        known("undefined"),
        pytest.raises(ValueError, match=r"image of 1 of 5 samples, .* not fin"),
    ):
        method_maps("undefined", captured(make_model("clip_scratch")), {})


def test_the_reverse_of_a_method_is_that_of_the_method_as_the_run_has_it():
    seen = captured(make_model("vilbert_scratch"))
    arguments = {"relevance": {"preset": "published"}, "dsmi": {"sign": "minority"}}
    for name, own in (("relevance", {}), ("dsmi", {"method": "dsmi"})):
        given = {**arguments, "reversed": own}
        found, expected = (method_maps(n, seen, given) for n in ("reversed", name))
        assert found.flags == expected.flags
        for modality, values in expected.items():
            assert torch.equal(found[modality], -values)
    changed = method_maps("reversed", seen, {})
    assert not torch.equal(changed["text"], method_maps("reversed", seen, arguments)["text"])


def test_half_a_model_is_no_reason_for_a_map_of_zeros():
    seen = captured(make_model("clip_scratch"))
    steps = [step for step in seen.steps if step[0].key == "text"]
    half = replace(seen, steps=steps, features={"text": seen.features["text"]})
    half = replace(half, layers={"text": seen.layers["text"], "image": []})
    for method in ATTENTION | SPECTRAL | {"grad_cam"}:
        with pytest.raises(NotApplicableError, match="image"):
            method_maps(method, half, {})


def test_raw_attention_of_any_layer_and_head():
    seen = captured(make_model("blip_scratch"), heads=True)
    maps = {m: seen.maps_between("text", m) for m in ("text", "image")}
    for layer in (0, 2, -1):
        for head in (None, 0, 1):
            found = METHODS.get("raw_attention")(seen, layer=layer, head=head)
            for modality, own in maps.items():
                heads = own[layer].heads
                expected = heads.mean(1) if head is None else heads[:, head]
                close(found[modality], expected[:, 0])
    last = METHODS.get("raw_attention")(captured(make_model("blip_scratch")))
    close(last["text"], maps["text"][-1].attention[:, 0])
    for options, why in (({"layer": 3}, "no layer 3: 3 maps"), ({"head": 2}, "that layer has 2")):
        with pytest.raises(NotApplicableError, match=why):
            METHODS.get("raw_attention")(seen, **options)


@cache
def resnet():
    torch.manual_seed(0)
    sizes = {"vocabulary_size": 20, "max_length": 12, "width": 8, "heads": 2, "image_size": 48}
    return shaken(MODELS.get("image")(**sizes, architecture="resnet"))


LAYERS = {
    "network.resnet.encoder.stages.2": (3, 3),
    "network.resnet.encoder.stages.0.layers.0.layer.1.convolution": (12, 12),
    "network.resnet.embedder.embedder.convolution": (24, 24),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_grad_cam_on_convolutions_is_its_formula(layer):
    model, batch = resnet(), make_batch()
    target = torch.ones(COUNT, dtype=torch.bool)
    seen = capture(model, batch, list("abcde"), target, {"image": layer})
    found = METHODS.get("grad_cam")(seen)["image"]
    outputs = []
    handle = model.get_submodule(layer).register_forward_hook(lambda *a: outputs.append(a[2]))
    batch.image.requires_grad_()
    logits = model(model.embed(batch))
    handle.remove()
    activations = outputs[0]
    assert activations.shape[2:] == LAYERS[layer]
    (gradients,) = torch.autograd.grad(logits.sum(), activations)
    # pytorch-grad-cam: np.mean(grads, axis=(2, 3)), weights * activations, sum over channels, >= 0
    weights = gradients.mean(dim=(2, 3))
    cam = torch.einsum("bc,bchw->bhw", weights, activations).clamp(min=0)
    side = LAYERS[layer][0] // 3
    patches = cam.unfold(1, side, side).unfold(2, side, side).mean((3, 4))
    close(found, patches.flatten(1).detach())
    assert found.std() > 0


def test_a_layer_that_is_not_there_names_norms_and_convolutions():
    with pytest.raises(ValueError, match=r"no layer 'x' in image; its convolutions are network"):
        capture(resnet(), make_batch(), list("abcde"), FIRST > 0, {"image": "x"})


def test_a_run_goes_on_without_what_does_not_apply(tmp_path):
    samples = write_samples(tmp_path, ["a", "b", "c"])
    settings = {"width": 8, "heads": 2, "image_size": 48, "architecture": "resnet"}
    train_tokenizer(["a b"], ["a b"]).save(str(tmp_path / "tokenizer.json"))
    data = EncodedSamples(samples, input_spec("image", settings, tmp_path / "tokenizer.json"))
    model = build_model("image", settings, data).eval()
    methods = ["random", "relevance", "grad_cam"]
    frame = explain(
        model, data, torch.ones(3, dtype=torch.bool),
        methods=methods, draws=1, batch_size=2, device="cpu",
    )  # fmt: skip
    assert frame["method"].value_counts().to_dict() == {"random": 3, "grad_cam": 3}
    paths = [tmp_path / f"{k}.parquet" for k in range(2)]
    for path in paths:
        write_parquet(path, frame)
    table = tabulate_missing(paths, ["resnet"], [0, 1])
    why = "reads attention maps, and the model has none"
    assert table.to_dict("records") == [{"model": "resnet", "method": "relevance", "why": why}]
    said = samples.assign(probability=0.9)[["sample_id", "label", "prediction", "probability"]]
    truth = pd.DataFrame({"sample_id": [], "named": [], "mask_counts": []}).astype({"named": bool})
    figure = attribution_grid(frame, said, samples, truth, methods, "resnet")
    texts = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert texts.count("not applicable") == 2
    plt.close(figure)
