"""Methods that need no attention: their formulas, properties, and games whose answer is known."""

from dataclasses import replace
from math import factorial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_explanation import (
    COUNT,
    NAMES,
    TARGET,
    assert_untouched,
    captured,
    close,
    find,
    make_batch,
    make_model,
    method_of,
    plain_logits,
)

from mmlens.explanation import METHODS, coalitions, input_gradients, smooth_grad
from mmlens.explanation.capture import Capture, capture
from mmlens.models.base import Tokens
from mmlens.models.image import Image
from mmlens.perturbation.engine import Subsets

torch.set_num_threads(1)

SIGNED = ("input_x_gradient", "integrated_gradients", "occlusion", "shapley")
NORMS = ("saliency", "smooth_grad")
PRIORS = ("patch_variance", "token_position")
EVERYWHERE = (*SIGNED, *NORMS, *PRIORS)
WORDS, PATCHES = (3.0, -1.0, 0.5), (2.0, 4.0)


def close_to_six(found, expected):
    close(found, expected, 1e-6, 1e-9)


def toy_tokens(values):
    """One sample: a special token, one token per value, a special token, two of padding."""
    row = torch.tensor([100.0, *values, 100.0, 1e6, 1e6], dtype=torch.float64)
    number = torch.arange(len(row))
    valid, content = number < len(values) + 2, (number > 0) & (number <= len(values))
    return Tokens(row[None, :, None], valid[None], content[None])


def toy(game):
    """A capture of three words and two patches; game : function {modality: Tokens} -> (K,)."""
    tokens = {"text": toy_tokens(WORDS), "image": toy_tokens(PATCHES)}
    layout = SimpleNamespace(content={m: part.content for m, part in tokens.items()})
    nothing = {name: {} for name in ("features", "embeddings", "layers")}
    return Capture(
        sample_ids=["a"],
        layout=layout,
        logits=None,
        steps=[],
        image=None,
        tokens=tokens,
        score=lambda tokens, rows=None: game(tokens),
        **nothing,
    )


def sums(tokens):
    return {m: (part.values[..., 0] * part.valid).sum(1) for m, part in tokens.items()}


def additive(tokens):
    return sum(sums(tokens).values())


def pairwise(tokens):
    """Every pair of a word and a patch is worth its product; special tokens are worth nothing."""
    words, patches = (
        (part.values[..., 0] * part.content).sum(1) for part in (tokens["text"], tokens["image"])
    )
    return words * patches


def crowded(tokens):
    """A game in which up to five tokens meet."""
    words, patches = (
        (part.values[..., 0] * part.content).sum(1) for part in (tokens["text"], tokens["image"])
    )
    return words**2 * patches + (words + patches / 2).cos()


def relevance_of(name, game, **options):
    """Relevance of the words, then of the patches; special tokens and padding have none."""
    seen = toy(game)
    maps = METHODS.get(name)(seen, **options)
    for modality, values in maps.items():
        assert (values[~seen.tokens[modality].content] == 0).all()
    return torch.cat([maps[m][seen.tokens[m].content] for m in ("text", "image")]).tolist()


@pytest.mark.parametrize("name", ["occlusion", "shapley", "integrated_gradients"])
def test_tokens_of_an_additive_model_are_worth_their_values(name):
    assert relevance_of(name, additive) == pytest.approx([*WORDS, *PATCHES])


def test_products_of_words_and_patches_are_halved_by_shapley_and_not_by_occlusion():
    words, patches = sum(WORDS), sum(PATCHES)
    whole = [w * patches for w in WORDS] + [p * words for p in PATCHES]
    assert relevance_of("occlusion", pairwise) == pytest.approx(whole)
    # One order and its reverse are enough for games of pairs.
    half = pytest.approx([value / 2 for value in whole])
    assert relevance_of("shapley", pairwise, permutations=2) == half


def exact_shapley(game):
    """Shapley values of the toy's five tokens, over all coalitions."""
    seen = toy(game)
    content = coalitions.players(seen)[0]
    subsets = (torch.arange(32)[:, None] >> torch.arange(5)) % 2 == 1
    shown = torch.zeros(32, len(content), dtype=torch.bool)
    shown[:, content] = subsets
    worth = coalitions.coalition_scores(seen, torch.zeros(32, dtype=torch.long), shown)
    values = []
    for player in range(5):
        without = (~subsets[:, player]).nonzero()[:, 0]
        sizes = subsets[without].sum(1).tolist()
        weights = torch.tensor([factorial(s) * factorial(4 - s) / factorial(5) for s in sizes])
        values.append(float((weights * (worth[without + 2**player] - worth[without])).sum()))
    return values


def test_sampled_shapley_values_approach_the_exact_ones():
    exact = np.array(exact_shapley(crowded))
    errors = [
        np.abs(np.array(relevance_of("shapley", crowded, permutations=k)) - exact).max()
        for k in (2, 2000)
    ]
    assert errors[1] < 0.02 * np.abs(exact).max() < errors[0] / 5


@pytest.mark.parametrize("permutations", [0, 3])
def test_an_odd_number_of_permutations_is_an_error(permutations):
    with pytest.raises(ValueError, match=f"found {permutations}, expected an even number"):
        METHODS.get("shapley")(toy(additive), permutations=permutations)


@pytest.mark.parametrize("name", NAMES)
def test_shapley_values_sum_to_what_the_words_and_patches_change(name):
    seen = captured(make_model(name))
    everything = coalitions.players(seen)
    rows = torch.arange(COUNT)
    nothing = torch.zeros_like(everything)
    worth = [coalitions.coalition_scores(seen, rows, shown) for shown in (everything, nothing)]
    maps = METHODS.get("shapley")(seen, permutations=2)
    close_to_six(sum(values.sum(1) for values in maps.values()), worth[0] - worth[1])


@pytest.mark.parametrize("name", NAMES)
def test_occlusion_removes_tokens_as_a_perturbation_test_does(name):
    model = make_model(name)
    seen = captured(model)
    maps = METHODS.get("occlusion")(seen)
    sign = torch.where(TARGET, 1.0, -1.0).double()

    def judge(logits, rows):
        return (logits * sign[list(rows)])[:, None].expand(-1, 3).numpy()

    for modality, tokens in seen.tokens.items():
        subsets, asked = Subsets(), []
        for k, own in enumerate(tokens.content.sum(1).tolist()):
            whole = subsets.request(k, np.arange(own))
            for place in range(own):
                asked.append((whole, subsets.request(k, np.delete(np.arange(own), place))))
        scores = subsets.evaluate(model, seen.tokens, modality, 7, judge)[:, 2]
        expected = [scores[whole] - scores[without] for whole, without in asked]
        close_to_six(maps[modality][tokens.content], torch.tensor(expected).double())


@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion"])
@pytest.mark.parametrize("name", ["vilt_scratch", "vilbert", "clip"])
def test_patches_in_another_order_have_the_same_relevance(name, method):
    seen = captured(make_model(name))
    image = seen.tokens["image"]
    special = image.values.shape[1] - 9
    order = torch.cat([torch.arange(special), special + torch.tensor([4, 8, 0, 2, 6, 1, 7, 3, 5])])
    other = replace(seen, tokens=seen.tokens | {"image": image.gather(order.expand(COUNT, -1))})
    found, expected = method_of(method)(other), method_of(method)(seen)
    close_to_six(found["image"], expected["image"][:, order])
    close_to_six(found["text"], expected["text"])


@pytest.mark.parametrize("name", NAMES)
def test_special_tokens_have_no_relevance_and_the_model_stays_as_it_was(name):
    model = make_model(name)
    seen, before = captured(model), plain_logits(model)
    for method in EVERYWHERE:
        if method == "saliency":
            continue
        for modality, values in method_of(method)(seen).items():
            assert (values[~seen.layout.content[modality]] == 0).all()
    assert torch.equal(plain_logits(model), before)
    assert_untouched(model)


def test_an_exception_in_a_method_leaves_the_model_as_it_was():
    model = make_model("vilt_scratch")
    seen = captured(model)

    def fail(tokens, rows=None):
        model(tokens)
        raise MemoryError

    for method in ("integrated_gradients", "smooth_grad", "occlusion", "shapley"):
        with pytest.raises(MemoryError):
            method_of(method)(replace(seen, score=fail))
        assert_untouched(model)


@pytest.mark.parametrize("method", ["occlusion", "shapley"])
def test_passes_have_a_bounded_number_of_rows_and_their_size_changes_nothing(method, monkeypatch):
    seen, rows = captured(make_model("blip")), []

    def counted(tokens, chosen):
        rows.append(len(chosen))
        return seen.score(tokens, chosen)

    whole = method_of(method)(seen)
    monkeypatch.setattr(coalitions, "ROWS", 1)
    pieces = method_of(method)(replace(seen, score=counted))
    assert max(rows) <= COUNT < len(rows)
    for modality, values in whole.items():
        close_to_six(pieces[modality], values)


@pytest.mark.parametrize("name", ["vilt_scratch", "vilbert", "visual_bert"])
def test_the_explained_answer_matters(name):
    torch.manual_seed(0)
    entry, options = find(name)
    features = {"features": SimpleNamespace(width=6, grid=None)} if entry.frozen else {}
    sizes = {"vocabulary_size": 20, "max_length": 12, "width": 8, "heads": 2, "image_size": 48}
    model = entry(**sizes, **features, **options, outputs=3).double().eval()
    batch, ids = make_batch(frozen=model.frozen), list("abcde")
    both = [capture(model, batch, ids, torch.full((COUNT,), k)) for k in (0, 2)]
    for method in EVERYWHERE:
        maps = [method_of(method)(seen) for seen in both]
        specific = METHODS.get(method).class_specific
        for modality, values in maps[0].items():
            assert torch.equal(values, maps[1][modality]) != specific


@pytest.mark.parametrize("method", [*SIGNED, *NORMS])
def test_of_two_labels_signed_maps_turn_their_signs_and_norms_stay(method):
    model, ids = make_model("clip_scratch"), list("abcde")
    one, other = (
        method_of(method)(capture(model, make_batch(), ids, target)) for target in (TARGET, ~TARGET)
    )
    for modality, values in one.items():
        close(other[modality], -values if method in SIGNED else values)


@pytest.mark.parametrize("name", ["visual_bert", "clip", "text", "meter_encoded"])
def test_integrated_gradients_are_complete(name, capsys):
    seen = captured(make_model(name))
    maps = METHODS.get("integrated_gradients")(seen, steps=128)
    error = input_gradients.completeness_error(seen, maps)
    assert error.max() < 1e-3
    assert capsys.readouterr().out == ""
    # Half of the maps misses half of the change; without content there is nothing to miss.
    halves = {modality: values / 2 for modality, values in maps.items()}
    missed = input_gradients.completeness_error(seen, halves)
    shown = coalitions.players(seen).any(1)
    close(missed, 0.5 * shown.double(), 1e-2, 1e-3)


def test_points_near_the_zeros_find_what_layer_norms_change_there():
    seen, errors = captured(make_model("meter")), []
    for power in (1, 3):
        maps = METHODS.get("integrated_gradients")(seen, steps=64, power=power)
        errors.append(input_gradients.completeness_error(seen, maps).max())
    assert errors[1] < 0.05 < errors[0]


def test_integrated_gradients_say_where_they_are_not_complete(capsys):
    METHODS.get("integrated_gradients")(captured(make_model("clip_scratch")), steps=2)
    said = capsys.readouterr().out
    assert "samples miss the change of the logit by more than 10% at 2 steps; take more" in said


@pytest.mark.parametrize("name", ["vilt_scratch", "vilbert", "meter", "text"])
def test_smooth_grad_without_noise_is_saliency(name):
    seen = captured(make_model(name))
    still = METHODS.get("smooth_grad")(seen, samples=2, noise=0.0)
    noisy = METHODS.get("smooth_grad")(seen, samples=2)
    for modality, values in METHODS.get("saliency")(seen).items():
        close_to_six(still[modality], values * seen.layout.content[modality])
        assert not torch.allclose(noisy[modality], still[modality])


@pytest.mark.parametrize("name", ["vilt_scratch", "vilbert"])
def test_noise_is_a_share_of_the_range_of_the_samples_own_inputs(name):
    seen = captured(make_model(name))
    given = {"image": [], "text": []}

    def embed(image):
        given["image"].append(image.detach())
        return seen.embed(image)

    def score(tokens, rows=None):
        given["text"].append(tokens["text"].values.detach())
        return seen.score(tokens)

    METHODS.get("smooth_grad")(replace(seen, embed=embed, score=score), samples=40, noise=0.5)
    clean, shown = smooth_grad.model_inputs(seen)
    for modality, values in clean.items():
        noise = torch.stack(given[modality]) - values
        mask = shown[modality].expand_as(values)
        assert (noise[:, ~mask] == 0).all()
        for k in range(COUNT):
            own = values[k][mask[k]]
            if len(own):
                expected = 0.5 * float(own.max() - own.min())
                assert noise[:, k][:, mask[k]].std() == pytest.approx(expected, rel=0.15)


def test_patch_variance_is_that_of_the_pixels_of_a_patch():
    model, batch = make_model("vilt_scratch"), make_batch()
    batch.image[0, :, 16:32, 32:] = torch.tensor([0.1, 0.2, 0.3])[:, None, None]
    seen = capture(model, batch, list("abcde"), TARGET)
    maps = METHODS.get("patch_variance")(seen)
    patches = batch.image.unfold(2, 16, 16).unfold(3, 16, 16).numpy()
    expected = patches.var((4, 5)).mean(1).reshape(COUNT, 9)
    close(maps["image"][:, 1:], torch.from_numpy(expected))
    assert maps["image"][0, 1 + 5] == 0
    words = seen.tokens["text"].values.numpy().var(-1)
    close(maps["text"], torch.from_numpy(words) * seen.layout.content["text"])


def test_variance_of_frozen_features_is_that_of_their_channels():
    seen = captured(make_model("vilbert"))
    content = seen.layout.content["image"]
    regions = make_batch(frozen=True).image.numpy().var(-1)
    found = METHODS.get("patch_variance")(seen)["image"]
    close(found[:, -9:], torch.from_numpy(regions) * content[:, -9:])


def test_position_falls_from_the_first_word_to_the_last():
    maps = METHODS.get("token_position")(captured(make_model("vilt_scratch")))
    assert maps["text"][0].tolist() == [0, 1, 0.75, 0.5, 0.25, 0, 0, 0]
    assert maps["text"][2].tolist() == [0] * 8
    close(maps["image"][0, 1:].double(), torch.arange(9, 0, -1).double() / 9, 1e-6)


def test_reversed_turns_the_signs_of_relevance_or_of_a_named_method():
    seen, method = captured(make_model("vilbert_scratch")), METHODS.get("reversed")
    for name, maps in (("relevance", method(seen)), ("saliency", method(seen, method="saliency"))):
        for modality, values in METHODS.get(name)(seen).items():
            assert torch.equal(maps[modality], -values)


def test_a_resnet_is_explained_by_all_methods_that_need_no_attention():
    torch.manual_seed(0)
    model = Image(1, 1, width=8, image_size=40, architecture="resnet").double().eval()
    pixels = make_batch().image[:, :, :40, :40]
    seen = capture(model, replace(make_batch(), image=pixels), list("abcde"), TARGET)
    for method in (*EVERYWHERE, "grad_cam", "random", "centre_prior"):
        values = method_of(method)(seen)["image"]
        assert values.shape == (COUNT, 9)
        assert values.isfinite().all()
        assert (values.std(1) > 0).any()
    # 40 pixels on 3 cells: the windows overlap.
    corner = pixels[:, :, 26:, 13:27].flatten(2).var(2, correction=0).mean(1)
    close(METHODS.get("patch_variance")(seen)["image"][:, 7], corner)
    with pytest.raises(ValueError, match="has none"):
        METHODS.get("reversed")(seen)
