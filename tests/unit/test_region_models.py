"""What all models on cached regions promise: lxmert and visual_bert (vilbert has its own tests)."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from region_batches import (
    FEATURES,
    PER_SAMPLE,
    RUN,
    WORDS,
    close,
    logits_of,
    make_batch,
    new_model,
    save_tokenizer,
)
from safetensors.torch import load_file

from mmlens.models import MODELS
from mmlens.models.answers import arrange_answers, read_answers
from mmlens.perturbation.engine import Subsets
from mmlens.perturbation.judges import BinaryJudge
from mmlens.table import DataError
from mmlens.weights import load_weights, save_weights

torch.set_num_threads(1)

NAMES = ("lxmert", "visual_bert")
named = pytest.mark.parametrize("name", NAMES)


@named
@pytest.mark.parametrize("outputs", [1, 3])
def test_padding_and_batches_change_nothing(name, outputs):
    model, batch = new_model(name, outputs=outputs), make_batch()
    logits = logits_of(model, batch)
    assert logits.shape == ((3,) if outputs == 1 else (3, 3))
    for padding in ((3, 0), (0, 4), (2, 1)):
        close(logits_of(model, make_batch(padding=padding)), logits)
    for k in range(3):
        own = {part: getattr(batch, part)[[k]] for part in PER_SAMPLE}
        close(logits_of(model, replace(batch, **own, image_rows=torch.arange(1))), logits[[k]])
    assert not torch.allclose(logits_of(model, make_batch(regions=4)), logits)
    assert not torch.allclose(logits_of(model, make_batch(words=3)), logits)


@named
def test_samples_may_share_an_image(name):
    model, batch = new_model(name), make_batch()
    shared = replace(batch, image_rows=torch.tensor([2, 0, 2]))
    own = {part: getattr(batch, part)[[2, 0, 2]] for part in PER_SAMPLE[3:]}
    close(logits_of(model, shared), logits_of(model, replace(batch, **own)))


@named
@pytest.mark.parametrize("left", [3, 1, 0])
def test_a_removed_region_leaves_no_trace(name, left):
    model = new_model(name)
    tokens = model.embed(make_batch())
    kept = tokens["image"].gather(torch.arange(left).expand(3, -1))
    with torch.no_grad():
        found = model({**tokens, "image": kept})
    close(found, logits_of(model, make_batch(regions=left)))
    # As an image of which the detector found no more.
    close(found, logits_of(model, make_batch(regions=left, padding=(0, 5 - left))))


@named
def test_the_perturbation_removes_words_and_regions_to_the_last(name):
    model = new_model(name)
    tokens = model.embed(make_batch())
    judge = BinaryJudge(pd.DataFrame({"label": [1] * 3, "prediction": 1, "threshold": 0.5}))
    for modality, count in (("image", 5), ("text", 4)):
        subsets = Subsets()
        for sample in range(3):
            for kept in ((), range(count)):
                subsets.request(sample, kept)
        scores = subsets.evaluate(model, tokens, modality, 4, judge)
        found = torch.from_numpy(scores[:, 2]).unflatten(0, (3, 2))
        close(found[:, 1], logits_of(model, make_batch()))
        assert not torch.isclose(found[:, 0], found[:, 1]).any()
        if modality == "image":
            close(found[:, 0], logits_of(model, make_batch(regions=0)))


@named
def test_twenty_steps_of_training_then_save_and_load(name, tmp_path):
    torch.manual_seed(0)
    batch, labels = make_batch(dtype=torch.float32), torch.tensor([0.0, 1.0, 1.0])
    model = MODELS.get(name)(**RUN, width=8, heads=2).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        tokens = model.embed(batch)
        hidden = model.encode(tokens)
        words = model.word_logits(hidden, tokens)
        assert words.shape == (*batch.input_ids.shape, WORDS)
        loss = F.binary_cross_entropy_with_logits(model.classify(hidden), labels)
        loss = loss + F.cross_entropy(words.flatten(0, 1), batch.input_ids.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    save_weights(tmp_path / "model.safetensors", model.eval())
    other = MODELS.get(name)(**RUN, width=8, heads=2).eval()
    load_weights(tmp_path / "model.safetensors", other)
    assert torch.equal(logits_of(other, batch), logits_of(model, batch))
    # The word embedding is tied to the head of the masked words, and so written once.
    assert set(load_file(tmp_path / "model.safetensors")) < set(other.state_dict())


@named
def test_dropout_works_in_training_only(name):
    dropout = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    model, batch = new_model(name, sizes=dropout), make_batch()
    before = logits_of(model, batch)
    assert not torch.equal(logits_of(model.train(), batch), before)
    assert torch.equal(logits_of(model.eval(), batch), before)


def test_layers_of_visual_bert_can_be_computed_again():
    """Those of lxmert cannot, and say so."""
    batch, gradients = make_batch(), []
    for again in (False, True):
        model = new_model("visual_bert").train()
        if again:
            model.checkpoint_gradients()
        model(model.embed(batch)).sum().backward()
        gradients.append(model.network.visual_bert.embeddings.visual_projection.weight.grad)
    close(*gradients)
    with pytest.raises(ValueError, match="lxmert has no layers that can be computed again"):
        new_model("lxmert").checkpoint_gradients()


@named
def test_words_of_a_run_without_weights_are_its_own(name, tmp_path):
    """Those of a tokenizer in a folder where one is named."""
    save_tokenizer(tmp_path)
    entry = MODELS.get(name)
    spec = entry.input_spec({"tokenizer": str(tmp_path)}, "unused", 7)
    assert spec.tokenizer.encode("word0 word1").ids == [2, 5, 6, 3]
    assert (spec.max_length, spec.pad_id, spec.mask_id, spec.geometry) == (7, 0, 4, None)
    with pytest.raises(DataError, match=r"holds no tokenizer \(tokenizer.json\); set arguments"):
        entry.input_spec({"weights": str(tmp_path / "nothing" / "x.pth")}, "unused")


@named
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"sizes": {"hiden_size": 8}}, "unknown key 'hiden_size': did you mean hidden_size"),
        ({"sizes": {"max_position_embeddings": 7}}, "found 7, expected at least 12, the length"),
        ({"sizes": {"vocab_size": 29}}, "vocab_size: found 29, expected at least 30"),
    ],
)
def test_a_model_that_does_not_fit_the_run_is_refused(name, options, expected):
    with pytest.raises(ValueError, match=expected):
        new_model(name, **options)


def test_answers_of_a_file_are_checked(tmp_path):
    path = tmp_path / "answers.json"
    for content, expected in (
        ('["a", "b"]', ["a", "b"]),
        ('{"b": 1, "a": 0}', ["a", "b"]),
        ('{"0": "a", "1": "b"}', ["a", "b"]),
    ):
        path.write_text(content)
        assert read_answers(path) == expected
    for content, problem in (
        ('{"a": 0, "b": 2}', "the indices are not 0 to 1"),
        ("7", "found int"),
        ("{", "expected a JSON list"),
    ):
        path.write_text(content)
        with pytest.raises(DataError, match=problem):
            read_answers(path)
    with pytest.raises(DataError, match="No such file"):
        read_answers(tmp_path / "none.json")


def test_outputs_of_a_fresh_head_keep_the_run_s_order():
    model = new_model("lxmert", outputs=3)
    before = logits_of(model, make_batch())
    arrange_answers(model, ["b", "c", "a"])
    assert torch.equal(logits_of(model, make_batch()), before)
    assert FEATURES.grid is model.grid is None
