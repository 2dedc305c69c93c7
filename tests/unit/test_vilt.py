"""vilt: what its stock class computes, without the random choice and order of its patches."""

import pandas as pd
import pytest
import torch
from PIL import Image
from stock_checkpoints import VILT_HEADS, WORDS, save_vilt
from transformers import (
    AutoTokenizer,
    ViltForImageAndTextRetrieval,
    ViltForMaskedLM,
    ViltForQuestionAnswering,
    ViltModel,
)

from mmlens.datasets.answers import published_vocabulary
from mmlens.models.answers import arrange_answers
from mmlens.models.inputs import EncodedSamples
from mmlens.models.vilt import Vilt
from mmlens.table import DataError

torch.set_num_threads(1)


def build(folder, **options):
    return Vilt(WORDS, 12, weights=str(folder), **options).eval()


def read_by_both(folder, tmp_path, model):
    """(Batch, inputs of the stock class) of three texts and images of several shapes."""
    for k, size in enumerate([(50, 20), (32, 32), (17, 60)]):
        noise = torch.randint(0, 256, (size[1], size[0], 3), dtype=torch.uint8)
        Image.fromarray(noise.numpy()).save(tmp_path / f"{k}.png")
    texts = ["word1 word2 word3", "word4", "word5 word1"]
    samples = pd.DataFrame(
        {"text": texts, "image": [str(tmp_path / f"{k}.png") for k in range(3)], "label": 0}
    )
    spec = Vilt.input_spec({"weights": str(folder)}, None)
    batch = EncodedSamples(samples, spec).batch(torch.arange(3))
    words = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    return batch, {**words, "pixel_values": batch.image}


@torch.no_grad()
@pytest.mark.parametrize("head", ["classifier", "matching"])
def test_logits_are_those_of_the_stock_class(tmp_path, head):
    folder = tmp_path / "vilt"
    kind = ViltForQuestionAnswering if head == "classifier" else ViltForImageAndTextRetrieval
    stock = save_vilt(folder, kind, labels=2)
    model = build(folder, head=head)
    batch, inputs = read_by_both(folder, tmp_path, model)
    expected = stock(**inputs).logits
    expected = expected[:, 1] - expected[:, 0] if head == "classifier" else expected[:, 0]
    # The stock class draws another order of the patches every time, which changes no logit.
    torch.testing.assert_close(model(model.embed(batch)), expected, rtol=1e-5, atol=1e-5)
    assert expected.std() > 1e-3


@torch.no_grad()
def test_patches_come_in_their_order(tmp_path):
    folder = tmp_path / "vilt"
    stock = save_vilt(folder)
    model = build(folder)
    batch, inputs = read_by_both(folder, tmp_path, model)
    embeddings = stock.vilt.embeddings
    mask = torch.ones(batch.image.shape[0], *batch.image.shape[2:], dtype=torch.long)
    shuffled, _, (index, (_, columns)) = embeddings.visual_embed(inputs["pixel_values"], mask)
    own = model.embed_image(batch).values - embeddings.token_type_embeddings.weight[1]
    numbers = index[..., 0] * columns + index[..., 1]
    assert not (numbers == torch.arange(16)).all()
    for k in range(3):
        torch.testing.assert_close(own[k, 1:][numbers[k]], shuffled[k, 1:])


def test_answers_take_the_head_of_the_file_and_the_order_of_the_run(tmp_path, capsys):
    stock = save_vilt(tmp_path, labels=3129)
    model = build(tmp_path, outputs=3129)
    published = published_vocabulary("vilt")
    assert torch.equal(model.network.classifier[-1].weight, stock.classifier[-1].weight)
    assert "0 of the network missing" in capsys.readouterr().out
    wanted = published_vocabulary("lxmert")
    arrange_answers(model, wanted)
    bias = model.network.classifier[-1].bias
    assert all(bias[k] == stock.classifier[-1].bias[published.index(wanted[k])] for k in range(50))


def test_a_head_of_another_size_stays_fresh_and_is_reported(tmp_path, capsys):
    save_vilt(tmp_path, labels=7)
    model = build(tmp_path)
    assert model.network.classifier[-1].out_features == 2
    shown = capsys.readouterr().out
    assert "not read: classifier.3.weight" in shown
    assert "missing: classifier.3.weight" in shown


@pytest.mark.parametrize("head", [*VILT_HEADS, ViltModel])
def test_the_trunk_is_read_from_files_of_every_class(tmp_path, head):
    stock = save_vilt(tmp_path, head)
    trunk = stock if head is ViltModel else stock.vilt
    own = build(tmp_path).network.vilt.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in trunk.state_dict().items())


def test_positions_of_a_smaller_grid_are_made_larger(tmp_path, capsys):
    stock = save_vilt(tmp_path)
    model = build(tmp_path, sizes={"image_size": 64})
    assert model.grid == (8, 8)
    assert "made to fit: vilt.embeddings.position_embeddings" in capsys.readouterr().out
    old, new = (
        network.vilt.embeddings.position_embeddings[0] for network in (stock, model.network)
    )
    corners_of = {4: [1, 4, 13, 16], 8: [1, 8, 57, 64]}
    assert torch.allclose(new[[0, *corners_of[8]]], old[[0, *corners_of[4]]])


def test_matching_needs_its_head(tmp_path):
    save_vilt(tmp_path, ViltForMaskedLM)
    with pytest.raises(DataError, match=r"no rank_output\.weight"):
        build(tmp_path, head="matching")


def test_texts_are_cut_to_the_positions_there_are(tmp_path):
    save_vilt(tmp_path)
    assert Vilt.input_spec({"weights": str(tmp_path)}, None).max_length == 12
    with pytest.raises(ValueError, match="max_position_embeddings: found 12, expected at least 20"):
        Vilt(WORDS, 20, weights=str(tmp_path))


def test_an_unknown_head_is_named():
    with pytest.raises(ValueError, match="head: found 'x', expected classifier or matching"):
        Vilt(WORDS, 12, image_size=32, head="x")
