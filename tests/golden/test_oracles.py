"""Grad-CAM and localisation against what pytorch-grad-cam and Quantus said (make_oracles.py).

Where the definitions differ, the difference is a test of its own:

- pytorch-grad-cam scales every map to [0, 1] and resizes it to the image; mmlens keeps the values
  and brings a map that is finer than the patches to them by means.
- Relevance mass: mmlens takes the positive part first, Quantus the map as it is.
- Ties: Quantus' pointing game is a hit if any of the highest places is one, and its rank takes the
  order of an unstable sort; mmlens takes the mean over the orders of those that tie.
- An empty mask is a hit for Quantus' pointing game and has no mass and rank; mmlens leaves it out.
"""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from make_oracles import CLASSES, FILE, FINAL, LAYERS, SAVERS, SIDES, WORDS, weights

from mmlens.datasets.truth import coverage
from mmlens.explanation import METHODS
from mmlens.explanation.capture import capture
from mmlens.models import MODELS
from mmlens.models.inputs import Batch
from mmlens.perturbation.localisation import mass, pointing, rank, score_maps

torch.set_num_threads(1)

METRICS = {"pointing": pointing, "mass": mass, "rank": rank}
ENTRIES = {"vit": ("image", {}), "resnet": ("image", {}), "blip": ("blip", {"head": "matching"})}
# The attention that mmlens reads in the stock ViT takes its softmax in single precision; the stock
# class, as pytorch-grad-cam ran it, does not.
TOLERANCE = {"vit": 1e-7}
CASES = [(*found, layer) for found, layers in LAYERS.items() for layer in layers]
OWN = [layers[0] for layers in LAYERS.values()]
TEXTS = [case for case in CASES if case[1] == "text"]
IMAGES = [case for case in CASES if case[1] == "image"]


def close(found, expected, tolerance=1e-10):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def oracles():
    return dict(np.load(FILE))


@pytest.fixture(scope="module")
def models(oracles, tmp_path_factory):
    """{network: model of mmlens with the stored weights}, in double precision."""
    built = {}
    for name, save in SAVERS.items():
        folder = tmp_path_factory.mktemp(name)
        network = save(folder)
        own, stored = weights(network), torch.from_numpy(oracles[f"{name}/weights"])
        for tensor, values in zip(own, stored.split([t.numel() for t in own]), strict=True):
            tensor.copy_(values.view_as(tensor))
        network.save_pretrained(folder)
        entry, options = ENTRIES[name]
        model = MODELS.get(entry)(30, 16, weights=str(folder), **options)
        built[name] = model.double().eval()
    return built


def own_map(oracles, model, name, modality, layer, classes=CLASSES):
    """The map of mmlens: (3, tokens) of the modality, without special tokens of images."""
    ids = torch.from_numpy(oracles["blip/ids"])
    pixels = torch.from_numpy(oracles[f"{name}/pixels"]).double()
    batch = Batch(ids, ids > 0, ids >= 5, pixels, torch.arange(3))
    named = {} if layer in OWN else {modality: f"network.{layer}"}
    seen = capture(model, batch, list("abc"), torch.tensor(classes), named)
    found = METHODS.get("grad_cam")(seen)[modality].numpy()
    special = modality == "image" and name != "resnet"
    return found[:, special:]


@pytest.mark.parametrize(("name", "modality", "layer"), IMAGES)
def test_grad_cam_of_images_is_that_of_pytorch_grad_cam(oracles, models, name, modality, layer):
    expected = oracles[f"{name}/{modality}/{layer}/unscaled"].clip(0)
    # Where a layer has more places than patches, mmlens takes the mean of each patch.
    grid = models[name].grid
    blocks = expected.reshape(3, grid[0], expected.shape[1] // grid[0], grid[1], -1)
    patches = blocks.mean((2, 4)).reshape(3, -1)
    found = own_map(oracles, models[name], name, modality, layer)
    close(found, patches, TOLERANCE.get(name, 1e-10))
    assert patches.std(1).max() > 1e-4
    other = own_map(oracles, models[name], name, modality, layer, [not c for c in CLASSES])
    assert np.abs(other - patches).max() > 1e-4  # the class matters


@pytest.mark.parametrize(("name", "modality", "layer"), TEXTS)
def test_grad_cam_of_words_is_that_of_pytorch_grad_cam(oracles, models, name, modality, layer):
    """In a padded batch, where pytorch-grad-cam saw each text alone, without special tokens."""
    found = own_map(oracles, models[name], name, modality, layer)
    for k, count in enumerate(WORDS):
        expected = oracles[f"{name}/{modality}/{layer}/unscaled/{k}"].clip(0)
        close(found[k, 1 : count + 1], expected)
    assert found[0, 1 : WORDS[0] + 1].std() > 1e-3


@pytest.mark.parametrize(("name", "layer"), FINAL)
def test_pytorch_grad_cam_ends_with_a_map_scaled_to_one_and_resized(oracles, models, name, layer):
    found = torch.from_numpy(own_map(oracles, models[name], name, "image", layer))
    maps = scaled(found.view(3, 1, *models[name].grid))
    side = SIDES[name]
    final = scaled(F.interpolate(maps, size=(side, side), mode="bilinear"))
    # Which it computes in single precision.
    close(final[:, 0].numpy(), oracles[f"{name}/image/{layer}/final"], 1e-5)
    assert final.std() > 0.1


def scaled(maps):
    """Maps (B, 1, h, w) from 0 to 1, as `scale_cam_image` of pytorch-grad-cam has it."""
    maps = maps - maps.amin((2, 3), keepdim=True)
    return maps / (1e-7 + maps.amax((2, 3), keepdim=True))


def quantus(oracles, case):
    """[(map, mask, {kind/metric: score})] of a case, maps and masks flat."""
    prefix = f"quantus/{case}/"
    scores = {k.removeprefix(prefix): v for k, v in oracles.items() if k.startswith(prefix)}
    maps, masks = scores.pop("maps"), scores.pop("masks")
    return [
        (values.ravel(), mask.ravel().astype(float), {name: s[k] for name, s in scores.items()})
        for k, (values, mask) in enumerate(zip(maps, masks, strict=True))
    ]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("kind", "prepare"), [("positive", lambda a: a.clip(0)), ("abs", np.abs)])
def test_localisation_without_negative_relevance_is_that_of_quantus(oracles, metric, kind, prepare):
    for values, mask, scores in quantus(oracles, "signed"):
        relevance = prepare(values)
        # Zeros of the positive part tie; where the mask reaches into them, see the test of ties.
        if metric == "rank" and (relevance > 0).sum() < mask.sum():
            continue
        close(METRICS[metric](relevance, mask), scores[f"{kind}/{metric}"])


def test_order_scores_of_signed_maps_are_those_of_quantus(oracles):
    for values, mask, scores in quantus(oracles, "signed"):
        close(pointing(values, mask), scores["plain/pointing"])
        close(rank(values, mask), scores["plain/rank"])


def test_mass_counts_positive_relevance_where_quantus_lets_signs_cancel(oracles):
    cases = quantus(oracles, "signed")
    for values, mask, scores in cases:
        close(mass(values, mask), scores["positive/mass"])
        close((values * mask).sum() / values.sum(), scores["plain/mass"])
    plain = np.array([scores["plain/mass"] for *_, scores in cases])
    assert plain.min() < 0 < 1 < plain.max()  # no share


def test_where_places_tie_scores_are_the_means_of_quantus_over_their_orders(oracles):
    cases = quantus(oracles, "ties")
    for values, mask, scores in cases:
        close(pointing(values, mask), scores["mean/pointing"])
        close(rank(values, mask), scores["mean/rank"])
        close(mass(values, mask), scores["plain/mass"])
        # On the map itself Quantus' pointing game is a hit if any of those that tie is one.
        assert scores["plain/pointing"] == (pointing(values, mask) > 0)
    assert any(scores["plain/rank"] != scores["mean/rank"] for *_, scores in cases)


def test_where_all_places_tie_quantus_takes_one_order_and_we_the_mean(oracles):
    cases = quantus(oracles, "constant")
    assert [scores["plain/pointing"] for *_, scores in cases] == [1, 1]
    assert sorted(scores["plain/rank"] for *_, scores in cases) == [0, 1]  # by where the truth is
    for values, mask, scores in cases:
        assert mass(values, mask) == scores["plain/mass"] == 0.25
        assert pointing(values, mask) == rank(values, mask) == 0.25


def test_patches_covered_in_part_score_as_quantus_scores_their_pixels(oracles):
    maps, masks = (oracles[f"quantus/patches/{part}"] for part in ("maps", "masks"))
    truth = [coverage(mask, maps.shape[1:]).ravel() for mask in masks]
    assert any(((t > 0) & (t < 1)).any() for t in truth)
    for k, (values, known) in enumerate(zip(maps.reshape(len(maps), -1), truth, strict=True)):
        close(pointing(values, known), oracles["quantus/patches/plain/pointing"][k])
        close(mass(values, known), oracles["quantus/patches/plain/mass"][k])
        # Pixels of a patch tie.
        close(rank(values, known), oracles["quantus/patches/mean/rank"][k])


def test_what_has_no_answer(oracles):
    empty, zeros, negative = quantus(oracles, "undefined")
    # Quantus writes NaN for an empty mask, which its array of booleans turns into a hit.
    assert empty[2]["plain/pointing"] == 1
    assert np.isnan([empty[2]["plain/mass"], empty[2]["plain/rank"]]).all()
    row = {"sample_id": "a", "method": "m", "image": empty[0]}
    assert score_maps(pd.DataFrame([row]), "image", {"a": empty[1]}).empty
    assert np.isnan(zeros[2]["plain/mass"])
    assert np.isnan(mass(*zeros[:2]))
    assert negative[2]["plain/mass"] == 0.5  # of a sum of negative values
    assert np.isnan(mass(*negative[:2]))
