"""Corruptions, the same for every model, and the table of what they cost."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tokenizers import normalizers

from mmlens.datasets.vocabulary import train_tokenizer
from mmlens.features.base import Geometry
from mmlens.models.inputs import EncodedSamples, own_inputs
from mmlens.robustness import CORRUPTIONS, UNREAD
from mmlens.robustness.corrupted import CorruptedImages, CorruptedPixels, Corrupter, fitted
from mmlens.robustness.records import predict_corrupted
from mmlens.robustness.table import robustness_table

IMAGES = sorted(n for n in CORRUPTIONS.names() if CORRUPTIONS.attribute(n, "modality") == "image")
TEXTS = sorted(n for n in CORRUPTIONS.names() if CORRUPTIONS.attribute(n, "modality") == "text")
KEYS = ["one", "two", "three"]
CLAIMS = ["the ring is red", "a blue cross stands here", "nobody expected a circle today"]


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    small = torch.randint(0, 256, (3, 3, 12, 12), generator=generator, dtype=torch.uint8)
    return small.repeat_interleave(8, 2).repeat_interleave(8, 3)


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_depends_on_its_key_alone_and_gets_worse(name, images):
    corrupt, levels = CORRUPTIONS.get(name), CORRUPTIONS.attribute(name, "levels")
    changes = []
    for level in levels:
        found = corrupt(images, level, KEYS)
        assert found.dtype == torch.uint8
        assert found.shape == images.shape
        alone = corrupt(images[1:2], level, KEYS[1:2])
        assert torch.equal(found[1:2], alone)
        changes.append((found.float() - images.float()).abs().mean().item())
    assert changes == sorted(changes)
    assert changes[-1] > 1
    assert len(corrupt(images[:0], levels[0], [])) == 0


def test_a_blur_of_one_pixel_changes_nothing(images):
    assert torch.equal(CORRUPTIONS.get("gaussian_blur")(images, 1, KEYS), images)


def test_greater_blurs_leave_less(images):
    blur = CORRUPTIONS.get("gaussian_blur")
    kernels = CORRUPTIONS.attribute("gaussian_blur", "level")["enum"]
    spread = [blur(images, k, KEYS).float().std((2, 3)).mean().item() for k in kernels]
    assert spread == sorted(spread, reverse=True)
    assert spread[-1] < spread[0] / 2


def test_a_blur_beyond_the_image_is_an_error(images):
    blur = CORRUPTIONS.get("gaussian_blur")
    assert blur(images[..., :16, :16], 31, KEYS).shape == (3, 3, 16, 16)
    with pytest.raises(ValueError, match="expected at most 31"):
        blur(images[..., :16, :16], 45, KEYS)


def test_noise_has_its_standard_deviation():
    grey = torch.full((3, 3, 96, 96), 128, dtype=torch.uint8)
    for level in (0.01, 0.05, 0.1):
        found = CORRUPTIONS.get("gaussian_noise")(grey, level, KEYS).float() / 255
        rounding = (1 / 255) / 12**0.5
        assert found.std().item() == pytest.approx((level**2 + rounding**2) ** 0.5, rel=0.02)
        assert found.mean().item() == pytest.approx(128 / 255, abs=0.002)


@pytest.mark.parametrize("size", [224, 96])
def test_occlusions_scale_with_the_image_and_lie_in_one_another(size):
    white = torch.full((3, 3, size, size), 255, dtype=torch.uint8)
    occlude = CORRUPTIONS.get("occlusion")
    black = {level: occlude(white, level, KEYS)[:, 0] == 0 for level in (32, 64)}
    for level, mask in black.items():
        assert mask.sum((1, 2)).tolist() == [round(level * size / 224) ** 2] * 3
    assert (black[32] <= black[64]).all()
    # Another image, another place; the same share of the image in every size.
    assert not torch.equal(black[32][0], black[32][1])
    centre = black[64][0].nonzero().float().mean(0) / size
    big = occlude(torch.full((1, 3, 448, 448), 255, dtype=torch.uint8), 64, KEYS[:1])[0, 0] == 0
    assert torch.allclose(centre, big.nonzero().float().mean(0) / 448, atol=0.01)


@given(st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Zs")), max_size=60))
def test_any_text_can_be_corrupted(text):
    for name in TEXTS:
        for level in CORRUPTIONS.attribute(name, "levels"):
            found = CORRUPTIONS.get(name)(text, level)
            assert isinstance(found, str)
            assert found == CORRUPTIONS.get(name)(text, level)


def test_texts_are_corrupted_as_their_names_say():
    text = "nobody expected a purple triangle today"
    change = {name: CORRUPTIONS.get(name) for name in TEXTS}
    assert change["case"](text, 1) == "Nobody expected a purple triangle today"
    assert change["case"](text, 2) == "Nobody Expected A Purple Triangle Today"
    assert change["case"](text, 3) == text.upper()
    assert change["case"]("don't stop, it's on", 2) == "Don't Stop, It's On"
    assert change["typos"]("where is it standing?\nthere", 1.0).split() != []
    assert change["typos"]("standing?", 1.0) not in ("standing?",)
    assert change["paraphrase"](text, 1) == f"{text} , it says"
    for old, new in zip(text.split(), change["typos"](text, 1.0).split(), strict=True):
        assert sorted(old) == sorted(new)
        assert (old[0], old[-1]) == (new[0], new[-1])
        assert (old != new) == (len(old) >= 4)
    kept = [change["word_drop"](text, level).split() for level in (0.0, 0.3, 0.6, 1.0)]
    assert kept[0] == text.split()
    assert len(kept[-1]) == 1
    assert all(set(few) <= set(many) for many, few in itertools.pairwise(kept))
    swapped = change["homoglyphs"](text, 1.0)
    assert swapped != text
    assert len(swapped) == len(text)
    assert change["homoglyphs"](text, 0.0) == change["typos"](text, 0.0) == text
    mild, bad = (change["homoglyphs"](text, level) for level in (0.1, 0.6))
    changed = [{k for k, pair in enumerate(zip(text, new, strict=True)) if len(set(pair)) > 1}
               for new in (mild, bad)]  # fmt: skip
    assert changed[0] <= changed[1]


def test_a_model_sees_the_square_in_its_own_geometry(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{k}.png" for k in range(2)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    images = CorruptedImages(map(str, paths), KEYS[:2], 48)
    numbers = torch.tensor([1, 0])
    squares = images.read(numbers, None, None)
    expected = [Image.open(paths[k]).resize((48, 48), Image.Resampling.BICUBIC) for k in (1, 0)]
    assert np.array_equal(squares.permute(0, 2, 3, 1), np.stack([np.asarray(e) for e in expected]))
    clean = CorruptedPixels(images, Geometry(48, 48), None, None).read(numbers)
    blurred = CorruptedPixels(images, Geometry(48, 48), "gaussian_blur", 1).read(numbers)
    assert torch.equal(clean, squares)
    assert torch.equal(clean, blurred)
    # The same mask for every model: the square is corrupted before it is resized for one.
    small, large = (
        CorruptedPixels(images, Geometry(side, side), "occlusion", 64).read(numbers)
        for side in (24, 96)
    )
    occluded = images.read(numbers, "occlusion", 64)
    assert torch.equal(small, fitted(occluded, Geometry(24, 24)))
    assert torch.equal(large, fitted(occluded, Geometry(96, 96)))
    cut = fitted(occluded, Geometry(32, 32, shortest_edge=48))
    assert torch.equal(cut, occluded[:, :, 8:40, 8:40])


def encoded_claims(root, lowers):
    """EncodedSamples of three claims, of a tokenizer that makes letters small or does not."""
    tokenizer = train_tokenizer(CLAIMS, [*CLAIMS, *map(str.upper, CLAIMS), *map(str.title, CLAIMS)])
    if not lowers:
        tokenizer.normalizer = normalizers.NFKC()
    tokenizer.save(str(root / "tokenizer.json"))
    rows = {"sample_id": KEYS, "text": CLAIMS, "image": ["a.png"] * 3, "image_sha256": "0"}
    samples = pd.DataFrame({**rows, "label": 0, "split": "test"})
    return EncodedSamples(samples, own_inputs(root / "tokenizer.json"))


@pytest.mark.parametrize("lowers", [True, False])
def test_letter_case_is_not_applicable_where_the_tokenizer_makes_letters_small(tmp_path, lowers):
    data = encoded_claims(tmp_path, lowers)
    corrupter = Corrupter(data, 96)
    assert corrupter.is_read("case", [1, 2, 3]) == (not lowers)
    assert corrupter.is_read("word_drop", [0.5])
    assert not corrupter.is_read("word_drop", [0.0])
    found = predict_corrupted(
        lambda data: lambda rows: data.lengths[rows].float(),
        corrupter, {"case": [1, 2, 3], "word_drop": [0.0, 0.9]}, {}, 0.5,
    )  # fmt: skip
    counts = found.groupby("corruption").size().to_dict()
    assert counts == {"clean": 3, "word_drop": 6, "case": 1 if lowers else 9}
    note = UNREAD if lowers else ""
    assert set(found.loc[found["corruption"] == "case", "note"]) == {note}


def records(samples, wrong):
    """Records of `predict_corrupted`: the first `wrong` samples are told wrongly, per severity."""
    parts = []
    for severity, count in enumerate(wrong):
        said = samples["label"].to_numpy().copy()
        said[:count] = 1 - said[:count]
        facts = {"corruption": "jpeg" if severity else "clean", "severity": severity}
        facts |= {"level": str(50 - severity) if severity else "", "note": ""}
        own = pd.DataFrame({"sample_id": samples["sample_id"], "prediction": said})
        own = own.assign(logit=said + 0.0, probability=said + 0.0, similarity=np.nan, **facts)
        parts.append(own.sample(frac=1, random_state=severity))
    note = {"corruption": "typos", "severity": 0, "note": "not applicable: reads no text"}
    return pd.concat([*parts, pd.DataFrame([note])], ignore_index=True)


def test_the_table_holds_metrics_drops_and_the_mean_error():
    rows = {"sample_id": [f"{k}" for k in range(40)], "label": [0, 1] * 20}
    rows |= {"cluster_id": [f"{k // 2}" for k in range(40)], "split": "test", "image": "a"}
    samples = pd.DataFrame(rows)
    table = robustness_table(
        records(samples, (4, 12, 20)), samples, ["0", "1"], resamples=200, seed=0
    )
    found = table.set_index(["corruption", "severity", "metric"])
    assert found.loc[("clean", 0, "accuracy"), "value"] == 0.9
    assert found.loc[("jpeg", 1, "accuracy"), "drop"] == pytest.approx(0.2)
    assert found.loc[("jpeg", 2, "error"), "drop"] == pytest.approx(0.4)
    assert found.loc[("jpeg", 2, "auroc"), "value"] == pytest.approx(0.5)
    assert found.loc[("jpeg", 2, "accuracy"), "shuffled"] == 0.5
    for metric in ("accuracy", "error", "auroc"):
        row = found.loc[("jpeg", 2, metric)]
        assert row["low"] <= row["value"] <= row["high"]
        assert row["drop_low"] <= row["drop"] <= row["drop_high"]
        assert row["drop_low"] > 0
    errors = table[table["corruption"] == "all"].set_index("metric")
    assert errors.loc["mean_corruption_error", "value"] == pytest.approx(0.4)
    assert errors.loc["relative_corruption_error", "value"] == pytest.approx(0.3)
    assert errors.loc["mean_corruption_error", "modality"] == "image"
    (note,) = table.loc[table["corruption"] == "typos", "note"]
    assert note == "not applicable: reads no text"
    perfect = robustness_table(
        records(samples, (0, 0)), samples, ["0", "1"], resamples=200, seed=0
    ).set_index(["corruption", "metric"])
    edge = 0.025 ** (1 / 20)  # of 20 clusters that agree
    for name, metric, expected in (
        ("clean", "accuracy", (edge, 1)),
        ("jpeg", "error", (0, 1 - edge)),
        ("all", "mean_corruption_error", (0, 1 - edge)),
        ("all", "relative_corruption_error", (0, 0)),
        ("jpeg", "auroc", (1, 1)),
    ):
        assert perfect.loc[(name, metric), ["low", "high"]].tolist() == pytest.approx(expected)
    same = perfect.loc[("jpeg", "accuracy")]  # predictions, so that nothing is lost for certain
    assert (same[["drop", "drop_low", "drop_high"]] == 0).all()
    assert (table["n"].dropna() == 40).all()


def test_a_corruption_that_is_not_read_counts_with_the_clean_error():
    rows = {"sample_id": [f"{k}" for k in range(40)], "label": [0, 1] * 20}
    rows |= {"cluster_id": [f"{k // 2}" for k in range(40)], "split": "test", "image": "a"}
    samples = pd.DataFrame(rows)
    unread = {"corruption": "rotation", "severity": 0, "note": UNREAD}
    found = pd.concat([records(samples, (4, 12, 20)), pd.DataFrame([unread])], ignore_index=True)
    table = robustness_table(found, samples, ["0", "1"], resamples=200, seed=0)
    assert table.loc[table["corruption"] == "rotation", "note"].tolist() == [UNREAD]
    errors = table[table["corruption"] == "all"].set_index("metric")["value"]
    assert errors["mean_corruption_error"] == pytest.approx((0.4 + 0.1) / 2)
    assert errors["relative_corruption_error"] == pytest.approx((0.4 + 0.1) / 2 - 0.1)
