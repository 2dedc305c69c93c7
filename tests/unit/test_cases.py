"""One case: the numbers of the run, of every kind of model, in Python and on the command line."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT
from PIL import Image
from stock_checkpoints import save_clip
from test_explanation import cached_pixels
from test_exports import REGIONS, SIZES, encoded, export, new_model
from training_data import read_data, write_data
from unimodal_checkpoints import save_resnet, save_text, save_vit

import mmlens
from mmlens.explanation import METHODS
from mmlens.explanation.explain import explain
from mmlens.figures.relevance import blend, scale_of, word_colours
from mmlens.models import input_spec, load
from mmlens.models.inputs import EncodedSamples
from mmlens.table import DataError
from mmlens.training.predict import predict
from mmlens.weights import save_weights

torch.set_num_threads(1)

METHODS_SHOWN = ("random", "raw_attention", "grad_cam", "relevance", "input_x_gradient")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Folder of a small generated data set."""
    folder = tmp_path_factory.mktemp("data")
    write_data(folder, {"train": 2, "val": 2, "test": 2})
    return folder


def exported(root, folder, name, **options):
    """(folder of an export, its model, the samples of the run)."""
    settings = {**SIZES, **options}
    data = encoded(root, name, settings)
    model = new_model(name, settings, data)
    return export(folder, name, settings, model, data), model, data


def of_run(model, data, row, methods):
    """Rows of the attributions table of one sample, by method."""
    logit = predict(model, data, torch.tensor([row]), "cpu")
    frame = explain(
        model, data_of(data, row), logit.sigmoid() >= 0.25,
        methods=methods, draws=1, batch_size=1, device="cpu",
    )  # fmt: skip
    return frame.set_index("method"), float(logit)


def data_of(data, row):
    return type(data)(data.samples.iloc[[row]], data.spec, data.features)


@pytest.mark.parametrize("name", ["clip_scratch", "text_only", "blip_frozen", "visual_bert"])
def test_a_case_has_the_numbers_of_the_run(root, tmp_path, name):
    folder, model, data = exported(root, tmp_path, name)
    row = int(data.split("test")[0])
    sample = data.samples.iloc[row]
    table, logit = of_run(model, data, row, METHODS_SHOWN)
    given = {"text": sample["text"], "image": sample["image"]}
    if data.features is not None:
        one = data.features.of([sample["image"]])
        given["features"] = {key: part[0] for key, part in one.items()}
    case = mmlens.explain(str(folder), method=METHODS_SHOWN, sample_id=sample["sample_id"], **given)
    sign = 1 if case.target else -1
    assert case.logit == pytest.approx(sign * logit, rel=1e-5)
    assert case.probability == pytest.approx(1 / (1 + np.exp(-sign * logit)), rel=1e-5)
    assert case.prediction == case.target == int(1 / (1 + np.exp(-logit)) >= 0.25)
    assert set(case.maps) == set(METHODS_SHOWN)
    for method, maps in case.maps.items():
        assert set(maps) == set(model.modalities)
        for modality, values in maps.items():
            np.testing.assert_allclose(values, table.loc[method, modality], rtol=1e-4, atol=1e-7)
    assert case.tokens == (table["tokens"].iat[0] if "text" in model.modalities else [])
    np.testing.assert_allclose(case.boxes.ravel(), table["boxes"].iat[0])
    for modality, layers in case.layers.items():
        np.testing.assert_allclose(layers[-1], case.maps["raw_attention"][modality], rtol=1e-5)
    other = mmlens.explain(load(folder), method="relevance", target=1 - case.target, **given)
    assert other.logit == pytest.approx(-case.logit, rel=1e-5)
    assert (other.prediction, other.target) == (case.prediction, 1 - case.target)


def test_what_is_written_can_be_read_and_says_it_all(root, tmp_path):
    folder, _, data = exported(root, tmp_path, "blip_frozen")
    features = {key: part[0] for key, part in data.features.of(data.samples["image"][:1]).items()}
    case = mmlens.explain(
        folder, text="the red, red Circle", features=features, method=METHODS.names()
    )
    case.write(tmp_path / "case")
    names = {"case.json", "overlay.png", "overlay.svg", "layers.png", "layers.svg"}
    assert {path.name for path in (tmp_path / "case").iterdir()} == names
    found = json.loads((tmp_path / "case/case.json").read_text())
    assert found["tokens"] == ["the", "red", ",", "red", "Circle"]
    assert found["grid"] == [0, 0]
    assert np.shape(found["boxes"]) == (REGIONS - 1, 4)
    assert set(found["versions"]) >= {"mmlens", "torch"}
    assert not {*found["maps"]} & {*found["not_applicable"]}
    assert {*found["maps"], *found["not_applicable"]} == set(METHODS.names())
    for maps in found["maps"].values():
        assert len(maps["image"]) == REGIONS - 1
        assert [word for word, _ in maps["words"]] == found["tokens"]
    assert np.shape(found["layers"]["text"])[1] == 5


def test_a_network_without_attention_says_so_and_is_drawn(tmp_path):
    save_resnet(tmp_path / "resnet")
    image = tmp_path / "image.png"
    Image.linear_gradient("L").crop((0, 0, 100, 60)).save(image)
    options = {"architecture": "image", "method": ["relevance", "grad_cam", "saliency"]}
    case = mmlens.explain(tmp_path / "resnet", image, **options)
    assert set(case.maps) == {"grad_cam", "saliency"}
    assert set(case.not_applicable) == {"relevance", "layers"}
    assert "the model has none" in case.not_applicable["relevance"]
    assert case.tokens == []
    assert case.boxes.shape == (9, 4)  # of what the centre crop shows
    case.write(tmp_path / "case")
    layer = {"image": "network.resnet.encoder.stages.0.layers.0.layer.0.convolution"}
    other = mmlens.explain(tmp_path / "resnet", image, target_layer=layer, **options)
    assert not np.allclose(other.maps["grad_cam"]["image"], case.maps["grad_cam"]["image"])


def test_a_text_model_in_the_format_of_a_hub_needs_no_image(tmp_path):
    save_text(tmp_path / "gpt2", "gpt2")
    method = ["saliency", "relevance"]
    case = mmlens.explain(
        tmp_path / "gpt2", text="redder rings", architecture="text", method=method
    )
    assert "".join(case.tokens) == "redderrings"
    words, values = case.of_words("saliency")
    assert words == ["redder", "rings"]
    assert values.sum() == pytest.approx(case.maps["saliency"]["text"].sum())
    assert len(case.layers["text"]) == 2
    case.write(tmp_path / "case")


def test_a_head_of_its_own(tmp_path):
    save_clip(tmp_path / "clip")
    image = tmp_path / "image.png"
    Image.new("RGB", (40, 30), "red").save(image)
    options = {"architecture": "clip", "text": "a red car"}
    similar = {"head": "similarity"}
    case = mmlens.explain(tmp_path / "clip", image, model_arguments=similar, **options)
    assert case.prediction in (0, 1)
    with pytest.raises(DataError, match=r"holds no classifier\..*which the logits depend on"):
        mmlens.explain(tmp_path / "clip", image, **options)


def test_a_checkpoint_of_a_run_is_read_with_its_tokenizer(root, tmp_path):
    data = encoded(root, "vilt_scratch", SIZES)
    model = new_model("vilt_scratch", SIZES, data)
    run = tmp_path / "results/mine"
    folder = run / "checkpoints/vilt_scratch/seed0"
    (run / "data").mkdir(parents=True)
    for name in ("tokenizer.json", "samples.csv"):
        (run / "data" / name).write_bytes((root / name).read_bytes())
    (run / "data/classes.csv").write_text("index,name\n0,0\n1,1\n")
    save_weights(folder / "model.safetensors", model)
    settings = {"name": "vilt_scratch", "arguments": SIZES, "max_length": None}
    effective = {"model": settings, "inputs": {}, "threshold": 0.25}
    (folder / "config.yaml").write_text(yaml.safe_dump(effective))
    sample = data.samples.iloc[0]
    case = mmlens.explain(folder, sample["image"], sample["text"])
    _, logit = of_run(model, data, 0, ["random"])
    assert case.logit == pytest.approx(logit if case.target else -logit, rel=1e-5)


def test_a_model_of_a_run_finds_the_features_of_its_images(root, tmp_path):
    run = tmp_path / "results/mine"
    folder = run / "checkpoints/blip_frozen/seed0"
    (run / "data").mkdir(parents=True)
    (run / "features/pixels").mkdir(parents=True)
    for name in ("tokenizer.json", "samples.csv"):
        (run / "data" / name).write_bytes((root / name).read_bytes())
    (run / "data/classes.csv").write_text("index,name\n0,0\n1,1\n")
    samples = read_data(root).samples.iloc[:4].reset_index(drop=True)
    drawn = samples.drop(columns=["image_sha256", "width", "height"])
    features = cached_pixels(run / "features/pixels", drawn)
    spec = input_spec("blip_frozen", SIZES, root / "tokenizer.json")
    data = EncodedSamples(samples, spec, features)
    model = new_model("blip_frozen", SIZES, data)
    save_weights(folder / "model.safetensors", model)
    settings = {"name": "blip_frozen", "arguments": SIZES, "max_length": None}
    inputs = {
        f"results/mine/features/pixels/{name}": "" for name in ("index.parquet", "facts.json")
    }
    effective = {"model": settings, "inputs": inputs, "threshold": 0.25}
    (folder / "config.yaml").write_text(yaml.safe_dump(effective))
    sample = samples.iloc[1]
    case = mmlens.explain(folder, sample["image"], sample["text"])
    _, logit = of_run(model, data, 1, ["random"])
    assert case.logit == pytest.approx(logit if case.target else -logit, rel=1e-5)
    with pytest.raises(DataError, match=r"x\.png: no features"):
        mmlens.explain(folder, "x.png", sample["text"])
    found = features.read(features.places_of([sample["image"]]))
    given = {"features": found.features[0], "boxes": found.boxes[0], "valid": found.valid[0]}
    for image in (None, "x.png"):  # which is only drawn on
        own = mmlens.explain(folder, image, sample["text"], features=given)
        assert (own.logit, own.image) == (case.logit, image)
        np.testing.assert_array_equal(own.boxes, case.boxes)
    with pytest.raises(ValueError, match=r"found text, .*; give image, or features for image$"):
        mmlens.explain(folder, text=sample["text"])
    given["features"] = given["features"][:, 1:]
    with pytest.raises(ValueError, match=rf"width {features.width - 1}, expected {features.width}"):
        mmlens.explain(folder, text=sample["text"], features=given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"text": "a"}, "found text, expected image, text; give image$"),
        ({"image": "x.png"}, "found image, expected image, text; give text$"),
        ({"text": "a", "features": {}}, "found text, features, expected image, text; give image$"),
        (
            {"text": "a", "image": "x.png", "features": {}},
            "features: found some, but vilt_scratch reads none; leave them out",
        ),
        ({"method": "relevanse"}, "did you mean relevance"),
        ({"arguments": {"rolout": {}}}, "did you mean rollout"),
        ({"text": "a", "image": "IMAGE", "target": "yes"}, "found 'yes', expected one of 0, 1"),
    ],
)
def test_what_is_missing_or_unknown(root, tmp_path, given, message):
    folder, _, data = exported(root, tmp_path, "vilt_scratch")
    given = {k: data.samples["image"].iat[0] if v == "IMAGE" else v for k, v in given.items()}
    with pytest.raises(ValueError, match=message):
        mmlens.explain(folder, **given)


def test_a_folder_of_another_kind_and_models_that_are_not_explained(tmp_path):
    save_vit(tmp_path)
    with pytest.raises(DataError, match="holds neither an exported checkpoint nor one of a run"):
        mmlens.explain(tmp_path, "x.png")
    with pytest.raises(DataError, match=r"generative has no tokens.*not explained"):
        mmlens.explain(tmp_path, "x.png", architecture="generative")
    with pytest.raises(DataError, match="lxmert reads regions"):
        mmlens.explain(tmp_path, "x.png", architecture="lxmert")


def test_the_command_writes_what_python_gives(root, tmp_path):
    folder, _, data = exported(root, tmp_path, "visual_bert")
    features = {key: part[0] for key, part in data.features.of(data.samples["image"][:1]).items()}
    np.savez(tmp_path / "features.npz", **features)
    command = [sys.executable, str(ROOT / "scripts/explain_case.py"), "--model", str(folder)]
    command += ["--features", str(tmp_path / "features.npz"), "--text", "the circle is red"]
    command += ["--method", "relevance", "raw_attention", "--target", "0"]
    command += ["--arguments", '{"raw_attention": {"layer": 0, "head": 1}}']
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "case")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "case/case.json").read_text())
    assert found["target"] == 0
    case = mmlens.explain(
        folder, text="the circle is red", method=["relevance", "raw_attention"], features=features,
        target=0, arguments={"raw_attention": {"layer": 0, "head": 1}},
    )  # fmt: skip
    assert found == json.loads(json.dumps(case.to_dict()))


NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target-layer", "image"], "--target-layer: found 'image', expected image=PATH or"),
        (["--target-layer", "imag=a"], "--target-layer: found 'imag=a', expected image=PATH or"),
        (["--device", "gpu"], "--device: invalid choice: 'gpu'"),
        pytest.param(["--device", "cuda"], "set device: auto or cpu", marks=NO_GPU),
        (["--features", "no.npz"], "no.npz: found no .npz file, expected one with features (R, D)"),
        (["--features", "one.npz"], "one.npz: found boxes, expected features, boxes and perhaps"),
        (["--features", "pixels.npz"], "pixels.npz: boxes: found [0.0, 0.0, 40.0, 30.0] at [1]"),
    ],
)
def test_the_command_says_what_is_wrong_with_its_options(tmp_path, options, message):
    boxes = np.array([[0, 0, 1, 1], [0, 0, 40, 30]], float)
    np.savez(tmp_path / "one.npz", boxes=boxes)
    np.savez(tmp_path / "pixels.npz", features=np.zeros((2, 6)), boxes=boxes)
    command = [sys.executable, ROOT / "scripts/explain_case.py", "--model", "none", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert message in done.stderr.splitlines()[-1]


def test_importing_mmlens_imports_no_torch_and_makes_models_no_part_of_figures():
    # Rules depend on all that a module imports by statements, and every export asks for a version.
    assert "from ." not in (ROOT / "scripts/mmlens/__init__.py").read_text()
    code = "import sys, mmlens; assert not {'torch', 'pandas', 'matplotlib'} & {*sys.modules}"
    environment = {"PYTHONPATH": str(ROOT / "scripts")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert mmlens.explain.__name__ == "explain_case"
    with pytest.raises(AttributeError, match="has no attribute 'explian'"):
        _ = mmlens.explian


def test_overlapping_boxes_show_the_strongest_and_what_none_covers_stays_open():
    boxes = np.array([[0, 0, 0.5, 1], [0.25, 0, 0.75, 1], [0.25, 0, 0.5, 1]])
    found = blend(boxes, np.array([2.0, -3.0, 1.0]), (1, 4))
    np.testing.assert_array_equal(found, [[2, -3, -3, np.nan]])


def test_signed_relevance_is_scaled_around_zero():
    assert scale_of(np.array([1.0, -4.0])) == (-4, 4, "coolwarm")
    assert scale_of(np.array([1.0, 4.0]))[:2] == (1, 4)
    red, blue = word_colours(np.array([2.0, -2.0]))
    assert red[0] > red[2]
    assert blue[2] > blue[0]
    assert word_colours(np.zeros(2)) == word_colours(np.ones(2))


def test_dollars_and_long_words_are_drawn_as_they_are_and_no_words_too(tmp_path):
    save_text(tmp_path / "bert", "bert", texts=["a $ b"])
    for name, text in (("dollars", "$$ a$_$b A$$"), ("url", "x" * 200), ("nothing", "")):
        case = mmlens.explain(
            tmp_path / "bert", text=text, architecture="text", method=["saliency", "rollout"]
        )
        case.write(tmp_path / name)
        assert (tmp_path / name / "layers.png").stat().st_size > 1000
