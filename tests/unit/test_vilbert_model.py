"""ViLBERT behind the contract: regions, order, sizes, and the files its weights come in."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import BertTokenizerFast

from mmlens.models import MODELS
from mmlens.models.answers import arrange_answers
from mmlens.models.base import Edge
from mmlens.models.inputs import Batch
from mmlens.models.vilbert_config import VilbertConfig
from mmlens.models.vilbert_network import HEADS, PRETRAINING, VilbertNetwork
from mmlens.models.vilbert_weights import load_vilbert
from mmlens.perturbation.engine import Subsets
from mmlens.perturbation.judges import BinaryJudge
from mmlens.table import DataError
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
SMALL = {"vocab_size": 30, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL |= {"intermediate_size": 20, "max_position_embeddings": 10, "v_feature_size": 6}
SMALL |= {"v_target_size": 5, "v_hidden_size": 8, "v_num_hidden_layers": 1, "bi_hidden_size": 16}
SMALL |= {"v_num_attention_heads": 2, "v_intermediate_size": 10, "bi_num_attention_heads": 4}
SMALL |= {"v_biattention_id": (0,), "t_biattention_id": (1,)}
CONFIG = VilbertConfig(**SMALL)
FEATURES = SimpleNamespace(width=6, grid=None)
PER_SAMPLE = ("input_ids", "text_valid", "text_content", "image", "boxes", "image_valid")


def new_model(**options):
    """A small model in double precision with weights that all matter."""
    torch.manual_seed(0)
    entry = MODELS.get("vilbert")
    model = entry(vocabulary_size=30, max_length=8, features=FEATURES, width=8, heads=2, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.double().eval()


def make_batch(regions=5, words=4, padding=0):
    """Two samples with `regions` regions each, and rows of padding after them."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 30, (2, words + 2), generator=generator)
    features = torch.randn(2, 5, 6, generator=generator).double()[:, :regions]
    corners = torch.rand(2, 5, 2, 2, generator=generator).double().sort(2).values
    boxes = corners.flatten(2)[:, :regions]
    valid = F.pad(torch.ones(2, regions, dtype=torch.bool), (0, padding))
    features, boxes = (F.pad(x, (0, 0, 0, padding)) for x in (features, boxes))
    shown = torch.ones_like(ids, dtype=torch.bool)
    content = shown.clone()
    content[:, [0, -1]] = False
    return Batch(ids, shown, content, features, torch.arange(2), boxes, valid)


@torch.no_grad()
def logits_of(model, batch):
    return model(model.embed(batch))


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


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


@pytest.fixture
def state():
    """Weights in the layout of the Conceptual Captions file."""
    torch.manual_seed(3)
    network = VilbertNetwork(CONFIG, PRETRAINING)
    return {name: torch.randn_like(value) for name, value in network.state_dict().items()} | {
        "cls.predictions.decoder.weight": network.bert.embeddings.word_embeddings.weight.detach(),
        "bert.embeddings.word_embeddings.weight": (
            network.bert.embeddings.word_embeddings.weight.detach()
        ),
    }


def older(name):
    """LayerNorm's names before 2019."""
    if "LayerNorm" in name:
        name = name.replace(".weight", ".gamma").replace(".bias", ".beta")
    return name


LAYOUTS = {
    "facebook": lambda state: state,
    "several GPUs": lambda state: {
        "model_state_dict": {f"module.{n}": v for n, v in state.items()}
    },
    "mmf": lambda state: {"model": {f"model.{n}": v for n, v in state.items()}},
    "older mmf": lambda state: {"model": {f"bert.{n}": v for n, v in state.items()}},
    "older bert": lambda state: {older(n): v for n, v in state.items()},
    "community": lambda state: {f"vilbert.{n}": v for n, v in state.items()},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_weights(tmp_path, state, layout):
    torch.save({**LAYOUTS[layout](state)}, tmp_path / "weights.bin")
    network = VilbertNetwork(CONFIG, PRETRAINING)
    report = load_vilbert(network, tmp_path / "weights.bin")
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert len(report.matched) + len(report.renamed) == len(state)
    assert (report.missing, report.unexpected) == ((), ())
    if layout in ("facebook", "several GPUs"):  # state_of has removed "module."
        assert not report.renamed
    elif layout == "mmf":
        assert not report.matched
        assert report.renamed["model.bert.t_pooler.dense.bias"] == "bert.t_pooler.dense.bias"


def test_report_names_what_was_not_read_and_what_stays_fresh(tmp_path, state):
    position_ids = torch.arange(10)[None]
    save_file(
        {**{n: v.clone() for n, v in state.items()}, "bert.embeddings.position_ids": position_ids},
        tmp_path / "weights.safetensors",
    )
    network = VilbertNetwork(CONFIG, ("words", "classifier"))
    fresh = network.classifier[1].weight.clone()
    report = load_vilbert(network, tmp_path / "weights.safetensors")
    assert torch.equal(network.classifier[1].weight, fresh)
    own = {name for name in state if name.startswith(("cls.imagePred", "cls.bi_seq"))}
    assert set(report.unexpected) == own | {"bert.embeddings.position_ids"}
    assert set(report.missing) == {n for n in network.state_dict() if n.startswith("classifier.")}
    assert "not read: bert.embeddings.position_ids" in str(report)
    assert "missing: classifier.1.bias" in str(report)


def test_a_tied_tensor_may_be_there_once(tmp_path, state):
    del state["cls.predictions.decoder.weight"]
    torch.save(state, tmp_path / "weights.bin")
    network = VilbertNetwork(CONFIG, PRETRAINING)
    assert load_vilbert(network, tmp_path / "weights.bin").missing == ()
    words = network.bert.embeddings.word_embeddings.weight
    assert network.cls["predictions"].decoder.weight is words
    assert torch.equal(words, state["bert.embeddings.word_embeddings.weight"])


def test_all_faults_of_a_file_are_named_at_once(tmp_path, state):
    del state["bert.v_pooler.dense.bias"], state["bert.encoder.layer.1.output.dense.weight"]
    del state["cls.imagePredictions.decoder.bias"]  # a head of which the rest is there
    state["bert.t_pooler.dense.bias"] = torch.zeros(3)
    state["cls.bi_seq_relationship.weight"] = torch.zeros(3, 16)
    state["bert.encoder.layer.2.output.dense.bias"] = torch.zeros(12)
    state["bert.embeddings.task_embeddings.weight"] = torch.zeros(20, 12)
    state["answers.weight"] = torch.zeros(2, 2)
    state["model.bert.embeddings.LayerNorm.weight"] = torch.zeros(12)
    state["cls.predictions.decoder.weight"] = torch.zeros(30, 12)
    torch.save(state, tmp_path / "weights.bin")
    network = VilbertNetwork(CONFIG, PRETRAINING)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(DataError) as caught:
        load_vilbert(network, tmp_path / "weights.bin")
    absent = "the network has no such tensor"
    assert sorted(problem.split(": ", 1)[1] for problem in caught.value.problems) == [
        "bert.embeddings.LayerNorm.weight and model.bert.embeddings.LayerNorm.weight are both "
        "bert.embeddings.LayerNorm.weight; expected one",
        "bert.t_pooler.dense.bias has shape (3,); expected (16,)",
        "cls.bi_seq_relationship.weight has shape (3, 16); expected (2, 16)",
        "cls.predictions.decoder.weight differs from bert.embeddings.word_embeddings.weight; "
        "expected the same tensor",
        "no bert.encoder.layer.1.output.dense.weight; expected (12, 20)",
        "no bert.v_pooler.dense.bias; expected (16,)",
        "no cls.imagePredictions.decoder.bias; expected (5,)",
        f"unexpected answers.weight (2, 2); {absent}",
        f"unexpected bert.embeddings.task_embeddings.weight (20, 12); {absent}",
        f"unexpected bert.encoder.layer.2.output.dense.bias (12,); {absent}",
    ]
    for name, value in network.state_dict().items():  # nothing was taken
        assert torch.equal(value, before[name])


def test_multi_task_weights_need_the_task_tokens(tmp_path, state):
    tasks = replace(CONFIG, task_count=20)
    torch.save(VilbertNetwork(tasks, HEADS[:4]).state_dict(), tmp_path / "tasks.bin")
    assert load_vilbert(VilbertNetwork(tasks, HEADS[:4]), tmp_path / "tasks.bin").missing == ()
    with pytest.raises(DataError, match=r"unexpected bert.embeddings.task_embeddings"):
        load_vilbert(VilbertNetwork(CONFIG), tmp_path / "tasks.bin")
    torch.save(state, tmp_path / "captions.bin")
    with pytest.raises(
        DataError, match=r"no bert.embeddings.task_embeddings.weight; expected \(20"
    ):
        load_vilbert(VilbertNetwork(tasks), tmp_path / "captions.bin")


def test_features_of_another_width_get_a_fresh_layer_that_is_reported(tmp_path, state):
    torch.save(state, tmp_path / "weights.bin")
    network = VilbertNetwork(replace(CONFIG, v_feature_size=CONFIG.v_feature_size + 3), ())
    report = load_vilbert(network, tmp_path / "weights.bin")
    projection = {f"bert.v_embeddings.image_embeddings.{name}" for name in ("weight", "bias")}
    assert set(report.missing) == projection <= set(report.unexpected)
    without = {name: tensor for name, tensor in state.items() if name not in projection}
    torch.save(without, tmp_path / "weights.bin")
    with pytest.raises(DataError, match=r"no bert.v_embeddings.image_embeddings.bias"):
        load_vilbert(network, tmp_path / "weights.bin")


def test_a_file_without_the_trunk_is_refused(tmp_path):
    torch.save({"classifier.1.bias": torch.zeros(2)}, tmp_path / "weights.bin")
    network = VilbertNetwork(CONFIG, ())
    with pytest.raises(DataError) as caught:
        load_vilbert(network, tmp_path / "weights.bin")
    assert len(caught.value.problems) == len(network.state_dict())


def model_of(path, **options):
    """A model of the small sizes that starts from a file."""
    arguments = {"vocabulary_size": 30, "max_length": 8, "features": FEATURES, "sizes": SMALL}
    return MODELS.get("vilbert")(**{**arguments, **options}, weights=str(path)).eval()


def single_precision(batch):
    return replace(batch, image=batch.image.float(), boxes=batch.boxes.float())


def test_a_model_starts_from_published_weights(tmp_path, state, capsys):
    torch.save({"model": {f"model.{n}": v for n, v in state.items()}}, tmp_path / "mmf.pth")
    model = model_of(tmp_path / "mmf.pth")
    assert all(name.startswith("classifier.") for name in model.report.missing)
    assert str(model.report) in capsys.readouterr().out
    trunk = {name: value for name, value in state.items() if name.startswith("bert.")}
    for name, value in trunk.items():
        assert torch.equal(model.network.state_dict()[name], value)
    assert torch.isfinite(logits_of(model, single_precision(make_batch()))).all()


def test_sizes_may_lie_beside_the_weights(tmp_path, state):
    torch.save(state, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps({**SMALL, "model_type": "vilbert"}))
    for weights in (tmp_path, tmp_path / "pytorch_model.bin"):
        assert model_of(weights, sizes=None).network.config == CONFIG
    with pytest.raises(ValueError, match="v_feature_size: found 6, expected exactly 7"):
        model_of(tmp_path, sizes=None, features=SimpleNamespace(width=7, grid=None))
    with pytest.raises(ValueError, match="vocab_size: found 30, expected at least 31"):
        model_of(tmp_path, sizes=None, vocabulary_size=31)
    del state["bert.t_pooler.dense.bias"]
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"no bert\.t_pooler\.dense\.bias"):
        model_of(tmp_path, sizes=None)


def test_the_head_of_answers_is_read_where_its_answers_are_named(tmp_path):
    """In the published order of its file, whatever that of the run is."""
    names = [f"answer {k}" for k in range(3129)]
    torch.manual_seed(0)
    tasks = VilbertNetwork(replace(CONFIG, task_count=20), HEADS[:4])
    torch.save(tasks.state_dict(), tmp_path / "tasks.bin")
    (tmp_path / "label2ans.json").write_text(json.dumps(names))
    options = {"outputs": 3129, "task": 1, "global_region": False}
    model = model_of(tmp_path / "tasks.bin", **options, answers=str(tmp_path / "label2ans.json"))
    batch = single_precision(make_batch())
    with torch.no_grad():
        hidden = model.encode(model.embed(batch))
        fused = tasks.eval().fuse(hidden["text"], hidden["image"])
        scores = tasks.vil_prediction(fused)
    close(logits_of(model, batch), scores)
    arrange_answers(model, names[::-1])
    close(logits_of(model, batch), scores.flip(1))
    with pytest.raises(DataError, match="3129 published answers, the run has 3, 1 of them unknown"):
        arrange_answers(model, ["answer 1", "answer 2", "dog"])
    unnamed = model_of(tmp_path / "tasks.bin", **options)
    assert {n for n in unnamed.report.missing if n.startswith("vil_prediction.")} == {
        f"vil_prediction.{name}" for name in tasks.vil_prediction.state_dict()
    }
    assert unnamed.published_answers()[1] is None
    few = model_of(tmp_path / "tasks.bin", **{**options, "outputs": 4})
    assert logits_of(few, batch).shape == (2, 4)


def test_words_come_from_the_tokenizer_beside_the_weights(tmp_path):
    """And never from the run, whose words published weights do not know."""
    entry = MODELS.get("vilbert")
    vocabulary = {w: k for k, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat"])}
    BertTokenizerFast(vocab=vocabulary).save_pretrained(tmp_path / "bert")
    for settings in (
        {"weights": str(tmp_path / "bert" / "weights.pth")},
        {"weights": str(tmp_path / "weights.pth"), "tokenizer": str(tmp_path / "bert")},
        {"tokenizer": str(tmp_path / "bert")},
    ):
        spec = entry.input_spec(settings, "unused", 20)
        assert spec.max_length == 20
        assert spec.tokenizer.encode("a Cat").tokens == ["[CLS]", "[UNK]", "cat", "[SEP]"]
        assert (spec.pad_id, spec.mask_id, spec.geometry) == (0, 4, None)
    with pytest.raises(DataError, match=r"holds no tokenizer \(tokenizer.json\); set arg"):
        entry.input_spec({"weights": str(tmp_path / "weights.pth")}, "unused")
