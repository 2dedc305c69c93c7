"""ViLBERT behind the contract: regions, order, sizes and training."""

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from region_batches import FEATURES, PER_SAMPLE, logits_of
from safetensors.torch import load_file
from vilbert_batches import close, make_batch

from mmlens.models import MODELS
from mmlens.models.base import Edge
from mmlens.models.vilbert_config import VilbertConfig
from mmlens.perturbation.engine import Subsets
from mmlens.perturbation.judges import BinaryJudge
from mmlens.weights import load_weights, save_weights

torch.set_num_threads(1)

# bert_base_6layer_6conect.json, as published with the weights.
PUBLISHED = {
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "type_vocab_size": 2,
    "vocab_size": 30522,
    "v_feature_size": 2048,
    "v_target_size": 1601,
    "v_hidden_size": 1024,
    "v_num_hidden_layers": 6,
    "v_num_attention_heads": 8,
    "v_intermediate_size": 1024,
    "bi_hidden_size": 1024,
    "bi_num_attention_heads": 8,
    "bi_intermediate_size": 1024,
    "bi_attention_type": 1,
    "v_attention_probs_dropout_prob": 0.1,
    "v_hidden_act": "gelu",
    "v_hidden_dropout_prob": 0.1,
    "v_initializer_range": 0.02,
    "v_biattention_id": [0, 1, 2, 3, 4, 5],
    "t_biattention_id": [6, 7, 8, 9, 10, 11],
    "pooling_method": "mul",
}


def new_model(**options):
    """A small model in double precision with weights that all matter."""
    torch.manual_seed(0)
    entry = MODELS.get("vilbert")
    model = entry(vocabulary_size=30, max_length=8, features=FEATURES, width=8, heads=2, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.double().eval()


def test_defaults_are_the_published_sizes():
    assert VilbertConfig.from_dict(PUBLISHED) == VilbertConfig()


def test_layers_run_in_the_published_order():
    order = [("text", k) for k in range(6)] + [("exchange", 0)]
    for k in range(5):
        order += [("text", 6 + k), ("regions", k), ("exchange", k + 1)]
    assert VilbertConfig().order() == [*order, ("text", 11), ("regions", 5)]
    model = new_model()
    found = [
        (step.query, step.key) if isinstance(step, Edge) else [(e.query, e.key) for e in step.edges]
        for step in model.edges()
    ]
    text, image, both = ("text",) * 2, ("image",) * 2, [("text", "image"), ("image", "text")]
    assert found == [text, text, both, text, image, both, text, image]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"hiden_size": 8}, "unknown key 'hiden_size': did you mean hidden_size"),
        ({"hidden_size": "8"}, "hidden_size: found '8', expected a value such as 768"),
        ({"t_biattention_id": 3}, "t_biattention_id: found 3, expected a value such as (6, 7"),
        ({"hidden_act": "relu"}, "hidden_act: found 'relu', expected 'gelu'"),
        ({"dynamic_attention": True}, "dynamic_attention: found True, expected False"),
        ({"v_hidden_dropout_prob": 0.2}, "v_hidden_dropout_prob: found 0.2, expected 0.1"),
        ({"pooling_method": "concat"}, "fusion_method: found 'concat', expected mul or sum"),
        ({"hidden_size": 770}, "hidden_size: found 770, expected a multiple of num_attention"),
        ({"num_hidden_layers": 9}, "expected increasing numbers of 0 to 9"),
        ({"v_biattention_id": [1, 2]}, "found 6 numbers, expected as many as in v_biattention_id"),
        ([1], "expected an object of keys and values"),
    ],
)
def test_faulty_sizes_are_named(values, expected):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        VilbertConfig.from_dict(values)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"preset": "large"}, "preset: found 'large', expected small or published"),
        ({"task": 20}, "task: found 20, expected 0 to 19"),
        ({"sizes": {"hiden_size": 3}}, "unknown key 'hiden_size': did you mean hidden_size"),
        ({"sizes": {"num_labels": 3}}, "num_labels: found 3, expected 2"),
        ({"sizes": {"max_position_embeddings": 7}}, "found 7, expected at least 8"),
    ],
)
def test_a_model_that_does_not_fit_the_run_is_refused(options, expected):
    with pytest.raises(ValueError, match=expected):
        new_model(**options)


def test_the_published_preset_has_the_published_sizes():
    with torch.device("meta"):
        model = MODELS.get("vilbert")(30522, 128, SimpleNamespace(width=2048, grid=None), 64, 2,
                                      preset="published")  # fmt: skip
    assert model.network.config == VilbertConfig()


def test_logits_are_the_difference_of_the_classes_of_the_network():
    model, batch = new_model(global_region=False), make_batch()
    network = model.network
    sides = batch.boxes[..., 2:] - batch.boxes[..., :2]
    places = torch.cat([batch.boxes, (sides[..., 0] * sides[..., 1])[..., None]], -1)
    with torch.no_grad():
        text = network.bert.embeddings(batch.input_ids, torch.zeros_like(batch.input_ids))
        regions = network.bert.v_embeddings(batch.image, places)
        text, regions = network.bert(text, batch.text_valid, regions, batch.image_valid)
        pooled = network.bert.t_pooler(text) * network.bert.v_pooler(regions)
        scores = network.classifier(pooled).softmax(-1)
    close(logits_of(model, batch).sigmoid(), scores[:, 1])


@pytest.mark.parametrize("global_region", [True, False])
def test_padding_and_batches_change_nothing(global_region):
    model, batch = new_model(global_region=global_region), make_batch()
    logits = logits_of(model, batch)
    close(logits_of(model, make_batch(padding=3)), logits)
    for k in range(2):
        own = {name: getattr(batch, name)[[k]] for name in PER_SAMPLE}
        alone = replace(batch, **own, image_rows=torch.arange(1))
        close(logits_of(model, alone), logits[[k]])
    assert not torch.allclose(logits_of(model, make_batch(regions=4)), logits)


@pytest.mark.parametrize("global_region", [True, False])
@pytest.mark.parametrize("left", [3, 1, 0])
def test_a_removed_region_leaves_no_trace(global_region, left):
    """Neither in the mean of the regions nor as what the pooler reads."""
    model = new_model(global_region=global_region)
    tokens = model.embed(make_batch())
    kept = tokens["image"].gather(torch.arange(left).expand(2, -1))
    with torch.no_grad():
        found = model({"text": tokens["text"], "image": kept})
    close(found, logits_of(model, make_batch(regions=left)))
    # As an image of which the detector found no more.
    close(found, logits_of(model, make_batch(regions=left, padding=5 - left)))


@pytest.mark.parametrize("global_region", [True, False])
def test_the_perturbation_removes_regions_to_the_last(global_region):
    model, subsets = new_model(global_region=global_region), Subsets()
    for sample in (0, 1):
        for kept in ((), (0, 1, 2), range(5)):
            subsets.request(sample, kept)
    tokens = model.embed(make_batch())
    judge = BinaryJudge(pd.DataFrame({"label": [1, 1], "prediction": [1, 1], "threshold": 0.5}))
    scores = subsets.evaluate(model, tokens, "image", 4, judge)
    found = torch.from_numpy(scores[:, 2])
    expected = [logits_of(model, make_batch(regions=n)) for n in (0, 3, 5)]
    close(found, torch.stack(expected, 1).flatten())


def test_the_first_region_is_what_the_pooler_reads():
    """Without a global region the order of the others does not matter, but which is first does."""
    model = new_model(global_region=False)
    tokens = model.embed(make_batch())
    image = tokens["image"]

    def reordered(order):
        with torch.no_grad():
            return model({**tokens, "image": image.gather(torch.tensor(order).expand(2, -1))})

    close(reordered([0, 4, 3, 2, 1]), reordered([0, 1, 2, 3, 4]))
    assert not torch.allclose(reordered([1, 0, 2, 3, 4]), reordered([0, 1, 2, 3, 4]))


def test_the_task_token_is_no_word_and_matters():
    batch = make_batch()
    logits = []
    for task in (0, 1):
        model = new_model(task=task)
        tokens = model.embed(batch)
        assert tokens["text"].values.shape[1] == batch.input_ids.shape[1] + 1
        assert tokens["text"].content[:, 1].tolist() == [False, False]
        assert tokens["text"].content.sum() == batch.text_content.sum()
        with torch.no_grad():
            hidden = model.encode(tokens)
            logits.append(model.classify(hidden))
            assert model.word_logits(hidden, tokens).shape == (*batch.input_ids.shape, 30)
    assert not torch.allclose(*logits)


def test_dropout_works_in_training_only():
    dropout = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    model, batch = new_model(sizes=dropout), make_batch()
    before = logits_of(model, batch)
    model.train()
    assert not torch.equal(logits_of(model, batch), logits_of(model, batch))
    model.eval()
    assert torch.equal(logits_of(model, batch), before)


def test_twenty_steps_of_training_then_save_and_load(tmp_path):
    model, batch = new_model().train(), make_batch()
    labels = torch.tensor([0.0, 1.0]).double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        tokens = model.embed(batch)
        hidden = model.encode(tokens)
        words = model.word_logits(hidden, tokens).flatten(0, 1)
        loss = F.binary_cross_entropy_with_logits(model.classify(hidden), labels)
        loss = loss + F.cross_entropy(words, batch.input_ids.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    save_weights(tmp_path / "model.safetensors", model.eval())
    other = new_model()
    load_weights(tmp_path / "model.safetensors", other)
    assert torch.equal(logits_of(other, batch), logits_of(model, batch))
    words = other.network.cls["predictions"].decoder.weight  # tied, and so written once
    assert words is other.network.bert.embeddings.word_embeddings.weight
    names = set(other.state_dict()) - set(load_file(tmp_path / "model.safetensors"))
    assert len(names) == 1
