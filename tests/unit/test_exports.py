"""Exported checkpoints: every model says the same when it is read again, wherever it started."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from stock_checkpoints import save_blip, save_clip, save_siglip, save_vilt, words_of
from training_data import read_data, write_data
from transformers import AutoImageProcessor, AutoTokenizer, ViltModel

from mmlens.features.normalise import normalised
from mmlens.models import MODELS, build_model, input_spec, list_models, load
from mmlens.models.exports import architecture_of, text_settings, write_export
from mmlens.models.folders import is_export
from mmlens.models.inputs import EncodedSamples
from mmlens.models.released import fresh_weights
from mmlens.report.card import model_card
from mmlens.table import DataError
from mmlens.training.loaded import GivenFeatures, check_features, read_features
from mmlens.training.predict import predict
from mmlens.training.threshold import threshold_of
from mmlens.training.zero_shot import class_logits
from mmlens.weights import save_weights

torch.set_num_threads(1)

SIZES = {"width": 16, "heads": 2, "image_size": 32}
REGIONS, WIDTH = 3, 6
WORDS = ["the", "circle", "square", "triangle", "is", "red", "blue"]


class Regions(GivenFeatures):
    """Three regions of every image, by its path."""

    grid, width, tokens, settings = None, WIDTH, REGIONS, {"extractor": "boxes"}

    def __init__(self, images):
        random = np.random.default_rng(0)
        corners = np.sort(random.random((len(images), REGIONS, 2, 2)), axis=2)
        boxes = corners.reshape(len(images), REGIONS, 4)
        valid = np.ones((len(images), REGIONS), bool)
        valid[0, -1] = False
        super().__init__(random.normal(size=(len(images), REGIONS, WIDTH)), boxes, valid)
        self.numbers = {image: number for number, image in enumerate(images)}

    def places_of(self, images):
        return np.array([self.numbers[image] for image in images])

    def of(self, images):
        """The argument features of `LoadedModel.predict` for these images."""
        places = self.places_of(images)
        parts = {"features": self.features, "boxes": self.boxes, "valid": self.valid}
        return {name: part[places] for name, part in parts.items()}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Folder of a small generated data set."""
    folder = tmp_path_factory.mktemp("data")
    write_data(folder, {"train": 2, "val": 2, "test": 2})
    return folder


def encoded(root, name, settings, samples=None):
    """The samples of a run for a model."""
    samples = read_data(root).samples if samples is None else samples
    frozen = MODELS.attribute(name, "frozen", False)
    features = Regions(samples["image"].unique()) if frozen else None
    spec = input_spec(name, settings, root / "tokenizer.json")
    return EncodedSamples(samples, spec, features)


def new_model(name, settings, data):
    torch.manual_seed(0)
    model = build_model(name, settings, data)
    with torch.no_grad():  # so that nothing is 0 as fresh biases are
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model.eval()


def export(folder, name, settings, model, data, **changes):
    """An exported checkpoint of a model; its folder."""
    features = None
    if data.features is not None:
        features = {"extractor": "boxes", "width": WIDTH, "tokens": REGIONS, "grid": None}
        features["settings"] = {**data.features.settings, "backend": "another pillow"}
    config = {
        **architecture_of(name, settings),
        **text_settings(data.spec),
        **{"task": "binary", "classes": ["0", "1"]},
        **{"zero_shot": {"prompts": ["a {name}"]}, "threshold": 0.25, "features": features},
        **changes,
    }
    save_weights(folder / "run.safetensors", model)
    write_export(folder / "export", folder / "run.safetensors", data.spec, config)
    return folder / "export"


SCRATCH = [
    name
    for name in list_models()
    if not MODELS.attribute(name, "pretrained", False) and MODELS.attribute(name, "trained", True)
]


@pytest.mark.parametrize("name", SCRATCH)
def test_every_model_from_scratch_says_the_same_again(root, tmp_path, name):
    data = encoded(root, name, SIZES)
    model = new_model(name, SIZES, data)
    folder = export(tmp_path, name, SIZES, model, data)
    found = load(folder)
    rows = data.split("test")
    chosen = data.samples.iloc[rows.numpy()]
    given = {"texts": chosen["text"].tolist(), "images": chosen["image"].tolist()}
    if data.features is not None:
        given["features"] = data.features.of(given.pop("images"))
    said = found.predict(**given)
    logits = predict(model, data, rows, "cpu").double()
    assert said["logit"].tolist() == logits.tolist()
    assert said["probability"].tolist() == logits.sigmoid().tolist()
    assert (said["prediction"] == (said["probability"] >= 0.25)).all()
    assert logits.std() > 1e-4

    # In a run, with other texts and as a variant that starts from it.
    start = {**SIZES, "weights": str(folder)}
    others = data.samples.assign(text=data.samples["text"].str.upper() + " unknown words")
    again = build_model(name, start, encoded(root, name, start, others))
    state = model.state_dict()
    assert again.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in again.state_dict().items())
    assert fresh_weights(again, data.batch(rows)) == []


@pytest.mark.parametrize("labels", [2, 3])
def test_a_model_from_a_checkpoint_needs_it_no_more(root, tmp_path, labels):
    start = tmp_path / "vilt"
    save_vilt(start, labels=labels, words=words_of(30, WORDS))
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps(["one", "two", "three"]))
    settings = {**SIZES, "weights": str(start)}
    data = encoded(root, "vilt", settings)
    changes = {}
    if labels == 3:
        settings["answers"] = str(answers)
        data.outputs, data.answers = 3, ["three", "one", "two"]
        changes = {"task": "answers", "classes": data.answers, "threshold": None}
    model = build_model("vilt", settings, data).eval()
    folder = export(tmp_path, "vilt", settings, model, data, **changes)
    shutil.rmtree(start)
    answers.unlink()
    rows = data.split("test")
    chosen = data.samples.iloc[rows.numpy()]
    said = load(folder).predict(chosen["image"].tolist(), chosen["text"].tolist())
    logits = predict(model, data, rows, "cpu").double()
    best = logits if labels == 2 else logits.max(1).values
    assert said["logit"].tolist() == best.tolist()
    if labels == 3:
        assert said["prediction"].tolist() == [data.answers[k] for k in logits.argmax(1)]


@pytest.mark.parametrize(
    ("name", "save", "options"),
    [
        ("blip", save_blip, {}),
        ("siglip", save_siglip, {}),
        ("clip_mlp", save_siglip, {"reads": "text"}),
        ("clip_mlp", save_clip, {"reads": "image"}),
        ("clip_mlp", save_clip, {"fusion": "align"}),
    ],
)
def test_two_towers_from_a_checkpoint_need_it_no_more(root, tmp_path, name, save, options):
    start = tmp_path / "start"
    save(start)
    settings = {**SIZES, "weights": str(start), **options}
    data = encoded(root, name, settings)
    model = build_model(name, settings, data).eval()
    folder = export(tmp_path, name, settings, model, data)
    shutil.rmtree(start)
    rows = data.split("test")
    chosen = data.samples.iloc[rows.numpy()]
    given = {"texts": chosen["text"].tolist(), "images": chosen["image"].tolist()}
    found = load(folder)
    needed = {argument: given[argument] for argument in found.needed()}
    logits = predict(model, data, rows, "cpu").double()
    assert found.predict(**needed)["logit"].tolist() == logits.tolist()
    assert found.spec.fill == data.spec.fill == (save is save_siglip)
    assert fresh_weights(found.model, data.batch(rows)) == []


def test_texts_that_are_filled_keep_their_length(root, tmp_path):
    save_siglip(tmp_path / "start")
    settings = {**SIZES, "weights": str(tmp_path / "start")}
    data = encoded(root, "siglip", settings)
    folder = export(tmp_path, "siglip", settings, build_model("siglip", settings, data), data)
    start = {**SIZES, "weights": str(folder)}
    assert input_spec("siglip", start, None).max_length == data.spec.max_length
    with pytest.raises(DataError, match=r"max_length: found 8, but .* reads texts filled to"):
        input_spec("siglip", start, None, 8)


def test_what_stands_beside_is_read_by_transformers_too(root, tmp_path):
    start = tmp_path / "vilt"
    save_vilt(start, labels=2, words=words_of(30, WORDS))
    settings = {**SIZES, "weights": str(start)}
    data = encoded(root, "vilt", settings)
    folder = export(tmp_path, "vilt", settings, build_model("vilt", settings, data), data)
    text = data.samples["text"].iat[0]
    ids = AutoTokenizer.from_pretrained(folder)(text)["input_ids"]
    batch = data.batch(torch.tensor([0]))
    assert ids == batch.input_ids[0].tolist()
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    noise = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    spec = load(folder).spec
    assert (spec.geometry, tuple(spec.mean)) == (data.spec.geometry, tuple(data.spec.mean))
    pixels = torch.as_tensor(np.array(processor(noise.numpy())["pixel_values"][0]))
    torch.testing.assert_close(pixels, normalised(noise[None], spec.mean, spec.std)[0])


def test_a_run_that_differs_from_what_it_was_made_for(root, tmp_path):
    data = encoded(root, "vilbert", SIZES)
    folder = export(tmp_path, "vilbert", SIZES, new_model("vilbert", SIZES, data), data)
    start = {**SIZES, "weights": str(folder)}
    features = SimpleNamespace(width=WIDTH, grid=None, settings={"extractor": "clip"})
    other = SimpleNamespace(answers=["a", "b"], features=features)
    with pytest.raises(DataError) as caught:
        build_model("lxmert", start, other)
    architecture, task, extractor = caught.value.problems
    assert f"{folder}: holds vilbert, the variant's model is lxmert" in architecture
    assert "was made for binary, the run has other labels" in task
    assert "reads features of {'extractor': 'boxes'}, the run's are of" in extractor
    with pytest.raises(DataError, match=r"no mmlens_version; expected the folder of an exported"):
        load(tmp_path)


@pytest.mark.parametrize(
    "given", [{}, {"texts": ["a"]}, {"images": ["x.png"], "texts": ["a", "b"]}]
)
def test_prediction_without_what_the_model_reads(root, tmp_path, given):
    data = encoded(root, "vilt_scratch", SIZES)
    folder = export(tmp_path, "vilt_scratch", SIZES, new_model("vilt_scratch", SIZES, data), data)
    with pytest.raises(ValueError, match="expected images, texts of one length"):
        load(folder).predict(**given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": None}, "found features, valid, expected features, boxes and perhaps valid"),
        ({"labels": np.zeros(1)}, "found features, boxes, valid, labels, expected features"),
        ({"features": np.zeros((2, 6))}, r"features: found shape \(2, 6\), expected \(N, R, D\)"),
        ({"boxes": np.zeros((1, 3, 4))}, r"boxes: found shape \(1, 3, 4\), expected \(1, 2, 4\)"),
        ({"valid": np.ones(2)}, r"valid: found shape \(2,\), expected \(1, 2\)"),
        ({"boxes": [[[0, 0, 1, 1], [0, 0, 9, 9]]]}, r"boxes: found \[0, 0, 9, 9\] at \[0, 1\]"),
        ({"boxes": [[[0.5, 0, 0.2, 1], [0, 0, 1, 1]]]}, r"boxes: .* at \[0, 0\], expected x1"),
        ({"boxes": np.full((1, 2, 4), np.nan)}, r"boxes: found \[nan"),
    ],
)
def test_features_that_are_none_of_regions(changes, message):
    good = {"features": np.zeros((1, 2, 6)), "boxes": np.zeros((1, 2, 4)), "valid": [[True, True]]}
    check_features(good, "NRD")
    given = {name: part for name, part in {**good, **changes}.items() if part is not None}
    with pytest.raises(ValueError, match=f"^given: {message}"):
        check_features(given, "NRD", "given")


def test_features_of_a_file_may_have_padding_of_any_box(tmp_path):
    boxes = [[0, 0, 1, 1], [-1, -1, -1, -1]]
    np.savez(tmp_path / "a.npz", features=np.zeros((2, 6)), boxes=boxes, valid=[1, 0])
    found = read_features(tmp_path / "a.npz")
    np.testing.assert_array_equal(found["boxes"], boxes)
    np.save(tmp_path / "a.npy", boxes)
    for name in ("a.npy", "none.npz"):
        with pytest.raises(ValueError, match=rf"{name}: found no \.npz file"):
            read_features(tmp_path / name)


def test_the_threshold_is_that_of_val_or_of_the_checkpoint(root, tmp_path):
    data = encoded(root, "vilt_scratch", SIZES)
    model = new_model("vilt_scratch", SIZES, data)
    folder = export(tmp_path, "vilt_scratch", SIZES, model, data)
    _, source = threshold_of(model, data, folder, "cpu")
    assert source == "val"
    rest = data.samples[data.samples["split"] != "val"]
    data = encoded(root, "vilt_scratch", SIZES, rest)
    assert threshold_of(model, data, folder, "cpu") == (0.25, "checkpoint")
    assert threshold_of(model, data, tmp_path, "cpu") == (0.5, "default")
    assert is_export(folder / "model.safetensors")
    assert not is_export(tmp_path)


def test_a_head_that_no_file_held_is_found_out(root, tmp_path):
    save_vilt(tmp_path / "trunk", ViltModel, words=words_of(30, WORDS))
    save_vilt(tmp_path / "whole", labels=2, words=words_of(30, WORDS))
    for name, expected in (("trunk", True), ("whole", False)):
        settings = {**SIZES, "weights": str(tmp_path / name)}
        data = encoded(root, "vilt", settings)
        unread = fresh_weights(build_model("vilt", settings, data), data.batch(torch.arange(2)))
        assert bool(unread) == expected
        assert all(part.startswith("classifier.") for part in unread)


def test_the_card_says_where_the_model_is_from():
    config = {
        **{"architecture": "lxmert", "max_length": 20},
        **{"vocabulary_size": 30, "threshold": 0.4, "stem": False, "training": None},
        "features": {"extractor": "fasterrcnn_vg", "width": 2048, "tokens": 36},
        "start": [{"source": "https://example.org/a.pth", "revision": "", "licence": "MIT"}],
        "data": {"kind": "csv", "sha256": "ab"},
    }
    auroc = {"value": 0.71234, "low": 0.6, "high": 0.8}
    metrics = {"split": "test", "subsets": {"all": {"n": 10, "positives": 5, "auroc": auroc}}}
    card = model_card("mine", "run", 3, config, ["text", "image"], {"test": 10}, metrics)
    for text in (
        'load("export").predict(texts=["a text"], features={',
        "up to 36 regions per image, of width 2048, by the extractor fasterrcnn_vg",
        "Started from https://example.org/a.pth (licence: MIT).",
        "Not trained in this run",
        "| auroc | 0.7123 | 0.6 to 0.8 |",
        "Label 1 is said from probability 0.4 on.",
    ):
        assert text in card
    scratch = {**config, "start": [], "training": {"lr": 0.1, "epochs": 2}, "features": None}
    card = model_card("mine", "run", 3, scratch, ["image"], {"train": 7, "val": 2}, metrics)
    assert "Trained from scratch" in card
    assert 'load("export").predict(images=["image.png"])' in card
    assert "Trained on 7 samples of the split train, chosen on 2 of the split val (epochs 2" in card


def test_a_model_that_reads_less_asks_for_less(root, tmp_path):
    save_clip(tmp_path / "start")
    settings = {**SIZES, "weights": str(tmp_path / "start"), "reads": "text"}
    data = encoded(root, "clip_mlp", settings)
    model = new_model("clip_mlp", settings, data)
    unread = fresh_weights(build_model("clip_mlp", settings, data), data.batch(torch.arange(2)))
    assert unread
    assert all(name.startswith("head.") for name in unread)
    found = load(export(tmp_path, "clip_mlp", settings, model, data))
    assert found.needed() == {"texts"}
    rows = data.split("test")
    said = found.predict(texts=data.samples["text"].iloc[rows.numpy()].tolist())
    assert said["logit"].tolist() == predict(model, data, rows, "cpu").double().tolist()


def test_images_by_the_names_of_classes(root, tmp_path):
    save_clip(tmp_path / "start")
    settings = {**SIZES, "weights": str(tmp_path / "start")}
    data = encoded(root, "clip", settings)
    model = new_model("clip", settings, data)
    names = ["circle", "square"]
    changes = {"task": "classes", "classes": names, "threshold": None}
    found = load(export(tmp_path, "clip", settings, model, data, **changes))
    rows = data.split("test")
    logits = class_logits(model, data, rows, names, ["a {name}"], "cpu").double()
    said = found.predict(images=data.samples["image"].iloc[rows.numpy()].tolist())
    assert said["prediction"].tolist() == [names[k] for k in logits.argmax(1)]
    torch.testing.assert_close(torch.tensor(said["logit"].to_numpy()), logits.max(1).values)
