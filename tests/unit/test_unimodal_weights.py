"""text and image from checkpoints: what their stock classes compute, and what is refused."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from PIL import Image as Picture
from safetensors.torch import load_file, save_file
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    BertForMaskedLM,
    BertModel,
    ConvNextImageProcessor,
    DistilBertForMaskedLM,
    GPT2LMHeadModel,
    GPT2Model,
    ResNetModel,
    RobertaForMaskedLM,
    T5Config,
    ViTModel,
)
from unimodal_checkpoints import (
    CONFIGS,
    PLACES,
    save_resnet,
    save_text,
    save_vit,
    tokenizer_of,
)

from mmlens.explanation import METHODS
from mmlens.explanation.capture import capture
from mmlens.explanation.explain import explain
from mmlens.features.normalise import normalised
from mmlens.features.vision_transformers import read_processor
from mmlens.models.image import Image
from mmlens.models.inputs import EncodedSamples
from mmlens.models.text import Text
from mmlens.perturbation.engine import perturb
from mmlens.table import DataError

torch.set_num_threads(1)

KINDS = sorted(CONFIGS)
TEXTS = ["a red ring and a blue ball", "the green ball", "Rings?  été 😀 ball", "ring"]
IMAGE_SAVERS = {"vit": save_vit, "resnet": save_resnet}
OF_ATTENTION = (
    "raw_attention",
    "rollout",
    "relevance",
    "attention_grad_cam",
    "legrad",
    "dsmi_grad",
)
kinds = pytest.mark.parametrize("kind", KINDS)
images = pytest.mark.parametrize("kind", IMAGE_SAVERS)


def close(found, expected, tolerance=1e-5):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def data_of(model, folder, samples, **options):
    spec = model.input_spec({"weights": str(folder), **options}, None)
    return EncodedSamples(samples, spec)


def text_samples(texts=TEXTS):
    return pd.DataFrame(
        {
            "sample_id": [str(k) for k in range(len(texts))],
            "text": texts,
            "image": "",
            "label": [k % 2 for k in range(len(texts))],
            "prediction": 1,
            "threshold": 0.5,
        }
    )


def text_model(folder, **options):
    data = data_of(Text, folder, text_samples())
    options = {"weights": str(folder), **options}
    return Text(data.vocabulary_size, data.max_length, **options).eval(), data


def picture_samples(folder):
    """Three pictures of noise in several shapes."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for k, (width, height) in enumerate([(50, 30), (32, 32), (27, 60)]):
        noise = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=generator)
        Picture.fromarray(noise.numpy()).save(folder / f"{k}.png")
        rows.append({"sample_id": str(k), "text": "", "image": str(folder / f"{k}.png")})
    return pd.DataFrame(rows).assign(label=[0, 1, 0], prediction=1, threshold=0.5)


def image_data(folder, tmp_path):
    own = tmp_path / "own.json"
    tokenizer_of("bert", ["a"]).backend_tokenizer.save(str(own))
    content = own.read_text().replace('"padding": null', '"padding": ' + PADDING)
    own.write_text(content)
    spec = Image.input_spec({"weights": str(folder)}, own)
    return EncodedSamples(picture_samples(tmp_path), spec)


PADDING = (
    '{"strategy": {"Fixed": 2}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, '
    '"pad_type_id": 0, "pad_token": "[PAD]"}'
)


@torch.no_grad()
def logits_of(model, batch):
    return model(model.embed(batch))


@torch.no_grad()
@kinds
def test_logits_of_texts_are_those_of_the_stock_class(tmp_path, kind):
    stock = save_text(tmp_path, kind)
    model, data = text_model(tmp_path)
    logits = logits_of(model, data.batch(torch.arange(len(TEXTS))))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for k, text in enumerate(TEXTS):  # one by one: nothing is padded
        # GPT-2 has no special tokens of its own; here the one that ends a document comes last.
        said = text + tokenizer.eos_token if kind == "gpt2" else text
        scores = stock(**tokenizer(said, return_tensors="pt")).logits[0]
        close(logits[k], scores[1] - scores[0])
    assert logits.std() > 1e-2


@torch.no_grad()
@images
def test_logits_of_images_are_those_of_the_stock_class(tmp_path, kind):
    folder = tmp_path / kind
    stock = IMAGE_SAVERS[kind](folder)
    data = image_data(folder, tmp_path)
    model = Image(1, 1, weights=str(folder)).eval()
    assert model.grid == {"vit": (4, 4), "resnet": (3, 3)}[kind]
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    pictures = [Picture.open(path) for path in data.samples["image"]]
    pixels = processor(pictures, return_tensors="pt")["pixel_values"]
    batch = data.batch(torch.arange(3))
    close(batch.image, pixels)
    scores = stock(pixel_values=pixels).logits
    logits = logits_of(model, batch)
    close(logits, scores[:, 1] - scores[:, 0])
    assert logits.std() > 1e-3
    shared = replace(batch, image_rows=torch.tensor([2, 0, 2]))
    close(logits_of(model, shared), logits[[2, 0, 2]])


@pytest.mark.parametrize(
    ("size", "share"), [(224, 0.875), (384, 0.875), (20, 0.9)], ids=["cut", "stretched", "odd"]
)
def test_a_resnet_s_image_processor_is_followed(tmp_path, size, share):
    own = ConvNextImageProcessor(size={"shortest_edge": size}, crop_pct=share)
    own.save_pretrained(tmp_path)
    geometry, mean, std = read_processor(tmp_path)
    stock = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    for name in picture_samples(tmp_path)["image"]:
        picture = Picture.open(name)
        expected = stock(picture, return_tensors="pt")["pixel_values"]
        found = torch.from_numpy(geometry.apply(picture).copy())[None]
        close(normalised(found, mean, std), expected)


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        *(("bert", head) for head in (BertForMaskedLM, BertModel)),
        ("distilbert", DistilBertForMaskedLM),
        ("roberta", RobertaForMaskedLM),
        *(("gpt2", head) for head in (GPT2LMHeadModel, GPT2Model)),
    ],
)
def test_the_trunk_is_read_from_a_checkpoint_of_any_class(tmp_path, kind, head, capsys):
    stock = save_text(tmp_path, kind, head)
    model, _ = text_model(tmp_path)
    trunk = getattr(stock, model.family.trunk, stock).state_dict()
    own = model.trunk.state_dict()
    fresh = {name for name in own if name not in trunk}
    assert fresh <= {"pooler.dense.weight", "pooler.dense.bias"}
    assert all(torch.equal(own[name], trunk[name]) for name in own.keys() - fresh)
    assert f"missing: {model.family.heads[-1]}" in capsys.readouterr().out


@pytest.mark.parametrize(("kind", "head"), [("vit", ViTModel), ("resnet", ResNetModel)])
def test_the_trunk_of_images_is_read_without_a_head(tmp_path, kind, head):
    stock = IMAGE_SAVERS[kind](tmp_path, head)
    trunk = getattr(Image(1, 1, weights=str(tmp_path)).network, kind).state_dict()
    assert all(torch.equal(trunk[n], t) for n, t in stock.state_dict().items() if n in trunk)
    assert len(trunk) >= len(stock.state_dict()) - 2  # but the pooler of ViT


@pytest.mark.parametrize("kind", ["bert", "roberta", "vit", "resnet"])
@pytest.mark.parametrize(("labels", "outputs"), [(3, 1), (3, 3), (2, 1)])
def test_only_a_head_of_two_classes_is_read(tmp_path, kind, labels, outputs, capsys):
    if kind in IMAGE_SAVERS:
        stock = IMAGE_SAVERS[kind](tmp_path, num_labels=labels)
        build = lambda: Image(1, 1, weights=str(tmp_path), outputs=outputs)  # noqa: E731
    else:
        stock = save_text(tmp_path, kind, num_labels=labels)
        build = lambda: text_model(tmp_path, outputs=outputs)[0]  # noqa: E731
    torch.manual_seed(5)
    first = build()
    torch.manual_seed(5)
    own, again = first.network.state_dict(), build().network.state_dict()
    assert all(torch.equal(own[name], again[name]) for name in own)
    state = stock.state_dict()
    head = [name for name in state if name.startswith("classifier.")]
    same = [own[n].shape == state[n].shape and torch.equal(own[n], state[n]) for n in head]
    shown = capsys.readouterr().out
    if labels == 2:
        assert all(same)
        assert ", 0 of the network missing" in shown
    else:
        assert not any(same)
        assert all(f"not read: {name}" in shown for name in head)


def test_a_trunk_is_never_read_in_part(tmp_path):
    save_text(tmp_path, "bert")
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    del state["bert.encoder.layer.1.output.dense.weight"]
    state["bert.embeddings.position_embeddings.weight"] = torch.zeros(7, 16)
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(DataError) as error:
        text_model(tmp_path)
    assert "no bert.encoder.layer.1.output.dense.weight" in str(error.value)
    assert "position_embeddings.weight has shape (7, 16); expected (20, 16)" in str(error.value)
    path.unlink()
    with pytest.raises(DataError, match=r"no model\.safetensors; expected a folder in the format"):
        text_model(tmp_path)


def test_other_architectures_are_refused_with_the_supported_ones(tmp_path):
    T5Config().save_pretrained(tmp_path)
    for model, known in ((Text, "bert or distilbert or electra or gpt2"), (Image, "vit or resnet")):
        with pytest.raises(DataError, match=f"model_type: found 't5', expected {known}"):
            model(30, 12, weights=str(tmp_path))
        with pytest.raises(DataError, match=f"architecture: found 't5', expected {known}"):
            model(30, 12, architecture="t5", image_size=32)
    save_text(tmp_path / "bert", "bert")
    with pytest.raises(DataError, match="model_type: found 'bert', expected gpt2"):
        Text(30, 12, weights=str(tmp_path / "bert"), architecture="gpt2")


def test_a_checkpoint_without_a_tokenizer_or_places_is_refused(tmp_path):
    save_text(tmp_path, "roberta")
    assert Text.input_spec({"weights": str(tmp_path)}, None).max_length == PLACES
    with pytest.raises(ValueError, match="max_position_embeddings: found 22, expected at least 23"):
        Text(100, PLACES + 1, weights=str(tmp_path))
    with pytest.raises(ValueError, match="num_hidden_layers: found 1, expected at least 2"):
        Text(100, 12, sizes={"num_hidden_layers": 1})
    with pytest.raises(ValueError, match="unknown key 'hiden_size': did you mean hidden_size"):
        Text(100, 12, sizes={"hiden_size": 1})
    for path in tmp_path.glob("tokenizer*"):
        path.unlink()
    # transformers would make an empty tokenizer up.
    with pytest.raises(DataError, match=r"holds no tokenizer \(tokenizer.json\)"):
        Text.input_spec({"weights": str(tmp_path)}, None)


def test_an_image_processor_of_another_size_is_refused(tmp_path):
    save_vit(tmp_path)
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    processor.size = {"height": 40, "width": 40}
    processor.save_pretrained(tmp_path)
    with pytest.raises(DataError, match="makes images of 40 x 40 pixels; expected 32 x 32"):
        image_data(tmp_path, tmp_path)


@pytest.mark.parametrize("kind", ["gpt2", "roberta", "bert"])
def test_words_are_shown_without_spaces_and_every_character_once(tmp_path, kind):
    save_text(tmp_path, kind)
    data = data_of(Text, tmp_path, text_samples())
    for k, text in enumerate(TEXTS):
        words, spans = data.words(k)
        assert words == [text[a:b] for a, b in spans]
        assert "".join(words) == text.replace(" ", "")
        assert not any(word != word.strip() for word in words)
        ends = [0, *(end for _, end in spans)]
        assert all(ends[j] <= a for j, (a, _) in enumerate(spans))
        assert len(words) == int(data.content[k].sum())


def test_gpt2_reads_the_token_that_ends_a_text_and_it_is_no_word(tmp_path):
    save_text(tmp_path, "gpt2")
    data = data_of(Text, tmp_path, text_samples())
    end = AutoTokenizer.from_pretrained(tmp_path).eos_token_id
    for ids, valid, content in zip(data.input_ids, data.valid, data.content, strict=True):
        last = int(valid.sum()) - 1
        assert ids[last] == end
        assert content.tolist() == [k < last for k in range(len(ids))]
    # Cutting a text leaves its end.
    short = EncodedSamples(text_samples(), replace(data.spec, max_length=4))
    assert (short.input_ids[short.lengths == 4, 3] == end).all()


@kinds
def test_explanations_of_a_checkpoint_name_its_pieces(tmp_path, kind):
    save_text(tmp_path, kind)
    model, data = text_model(tmp_path)
    methods = ["saliency", "grad_cam", *OF_ATTENTION]
    target = torch.ones(len(TEXTS), dtype=torch.bool)
    options = {"draws": 1, "batch_size": 3, "device": "cpu"}
    found = explain(model, data, target, methods=methods, **options)
    for row in found.itertuples():
        assert row.tokens == data.words(int(row.sample_id))[0]
        assert len(row.text) == len(row.tokens)
        assert torch.isfinite(torch.tensor(row.text)).all()
    for _method, maps in found.groupby("method")["text"]:
        assert maps.map(lambda values: values.std() > 0).any()
    with torch.no_grad():
        tokens = model.embed(data.batch(torch.arange(len(TEXTS))))
    options = {"steps": [0, 0.5, 1], "protocol": "default", "batch_size": 8}
    scores = perturb(model, tokens, found, data.samples, **options)
    start = scores[scores["fraction"] == 0].groupby("sample_id")["logit"].first()
    end = scores[scores["fraction"] == 1].groupby("sample_id")["logit"].first()
    logits = logits_of(model, data.batch(torch.arange(len(TEXTS))))
    assert torch.allclose(torch.tensor(start.to_numpy()).float(), logits, atol=1e-5)
    assert not (start == end).any()


@images
def test_images_are_explained_by_what_applies_to_them(tmp_path, kind):
    folder = tmp_path / kind
    IMAGE_SAVERS[kind](folder)
    data = image_data(folder, tmp_path)
    model = Image(1, 1, weights=str(folder)).eval()
    target = torch.tensor([True, False, True])
    seen = capture(model, data.batch(torch.arange(3)), list("abc"), target)
    close(seen.logits, logits_of(model, data.batch(torch.arange(3))))
    assert len(seen.steps) == len(model.edges()) == {"vit": 2, "resnet": 0}[kind]
    side, special = {"vit": (4, 1), "resnet": (3, 0)}[kind]
    assert seen.layout.grid == (side, side)
    for method in ("saliency", "grad_cam", "random", "centre_prior", *OF_ATTENTION):
        if kind == "resnet" and method in OF_ATTENTION:
            with pytest.raises(ValueError, match="the model has n"):
                METHODS.get(method)(seen)
            continue
        values = METHODS.get(method)(seen)["image"]
        assert values.shape == (3, side**2 + special)
        assert values.isfinite().all()
        content = values[seen.layout.content["image"]].view(3, -1)
        assert (content.std(1) > 0).any()


def test_grad_cam_of_a_resnet_is_that_of_its_last_stage(tmp_path):
    """Channels weighted by the mean gradient of the logit (Selvaraju et al. 2017)."""
    folder = tmp_path / "resnet"
    stock = save_resnet(folder)
    data = image_data(folder, tmp_path)
    batch = data.batch(torch.arange(3))
    model = Image(1, 1, weights=str(folder)).eval()
    seen = capture(model, batch, list("abc"), torch.tensor([True] * 3))
    found = METHODS.get("grad_cam")(seen)["image"]
    maps = stock.resnet(batch.image).last_hidden_state.detach().requires_grad_()
    scores = stock.classifier(maps.mean((2, 3), keepdim=True))
    (gradient,) = torch.autograd.grad((scores[:, 1] - scores[:, 0]).sum(), maps)
    weights = gradient.mean((2, 3), keepdim=True)
    close(found, (weights * maps).sum(1).relu().flatten(1).detach())
