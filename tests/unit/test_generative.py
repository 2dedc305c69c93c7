"""generative: the margin of two answers is that of the stock class, for what was asked."""

import pandas as pd
import pytest
import torch
from generative_checkpoints import save_llava
from PIL import Image
from tokenizers.processors import TemplateProcessing
from transformers import AutoProcessor

from mmlens.models import build_model, input_spec
from mmlens.models.inputs import EncodedSamples
from mmlens.table import DataError
from mmlens.training.cost import model_cost
from mmlens.training.predict import predict, prediction_table

torch.set_num_threads(1)

PROMPT = "{text} is the claim false ?"
PLAIN = "<image> {text} is the claim false ? answer :"
TEXTS = ["the ring is red", "the ring is blue", "the ring is red", "look , a green ball right here"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llava")
    save_llava(folder / "chat")
    save_llava(folder / "plain", template=None)
    return folder


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Four samples to predict, of which two are the same, and eight to choose from."""
    folder = tmp_path_factory.mktemp("images")
    generator = torch.Generator().manual_seed(0)
    for k in range(4):
        noise = torch.randint(0, 256, (20 + 5 * k, 30, 3), dtype=torch.uint8, generator=generator)
        Image.fromarray(noise.numpy()).save(folder / f"{k}.png")
    rows = [(f"t{k}", "test", TEXTS[k], k % 2, k % 2) for k in range(4)]
    rows += [(f"s{k}", "train", TEXTS[k % 4], k % 4, int(k < 5)) for k in range(8)]
    columns = ["sample_id", "split", "text", "image", "label"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(image=[str(folder / f"{k}.png") for k in table["image"]])


def build(folder, samples, prompt=PROMPT, **arguments):
    arguments = {"weights": str(folder), "prompt": prompt, "width": 8, **arguments}
    data = EncodedSamples(samples, input_spec("generative", arguments, None))
    return build_model("generative", arguments, data).eval(), data


def said(role, text, image=None):
    shown = [] if image is None else [{"type": "image", "image": Image.open(image)}]
    return {"role": role, "content": [*shown, {"type": "text", "text": text}]}


@torch.no_grad()
def stock_margin(folder, model, chat):
    """Yes against No after all that was said, by the whole forward pass of the stock class."""
    processor = AutoProcessor.from_pretrained(folder, backend="pil")
    inputs = processor.apply_chat_template(
        chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    scores = model.network(**inputs).logits[0, -1]
    yes, no = processor.tokenizer.convert_tokens_to_ids(["Yes", "No"])
    return (scores[yes] - scores[no]).item()


@torch.no_grad()
def test_logits_are_those_of_the_stock_class(folder, samples, capsys):
    model, data = build(folder / "chat", samples)
    logits = predict(model, data, data.split("test"), "cpu")
    for k in range(4):
        row = samples.iloc[k]
        chat = [said("user", PROMPT.replace("{text}", row["text"]), row["image"])]
        assert logits[k].item() == pytest.approx(
            stock_margin(folder / "chat", model, chat), abs=1e-5
        )
    assert logits[0] == logits[2]
    assert len(set(logits.tolist())) == 3
    shown = capsys.readouterr().out
    assert "0 of the network missing" in shown
    assert "asked: '<s>USER: <image>\\n{text} is the claim false ? ASSISTANT:'" in shown
    assert "of Yes and No" in shown


@torch.no_grad()
def test_batches_change_nothing_and_probabilities_are_those_of_two_answers(folder, samples):
    model, data = build(folder / "chat", samples)
    rows = data.split("test")
    logits = predict(model, data, rows, "cpu", batch_size=1)
    assert torch.equal(predict(model, data, rows, "cpu"), logits)
    other, again = build(folder / "chat", samples, answers=["No", "Yes"])
    assert torch.allclose(predict(other, again, rows, "cpu"), -logits)
    table = prediction_table(lambda rows: predict(model, data, rows, "cpu"), data, ["test"], 0.5)
    inputs = model.inputs(model.conversation(TEXTS[1]), samples["image"][1])
    scores = model.network(**inputs).logits[0, -1].double()[list(model.answer_ids)]
    assert table["probability"][1] == pytest.approx(scores.softmax(0)[0].item(), abs=1e-6)
    assert model_cost(model, data, "cpu")["parameters"] > 1000


@torch.no_grad()
@pytest.mark.parametrize("with_images", [True, False])
def test_examples_are_shown_with_their_answers(folder, samples, with_images, capsys):
    options = {"shots": 4, "shot_images": with_images}
    model, data = build(folder / "chat", samples, **options)
    assert [row.label for row in model.examples] == [1, 0, 1, 0]
    assert len({row.sample_id for row in model.examples}) == 4
    assert all(row.split == "train" for row in model.examples)
    chat = []
    for row in model.examples:
        image = row.image if with_images else None
        chat.append(said("user", PROMPT.replace("{text}", row.text), image))
        chat.append(said("assistant", "Yes" if row.label else "No"))
    chat.append(said("user", PROMPT.replace("{text}", TEXTS[0]), samples["image"][0]))
    logit = predict(model, data, data.split("test")[:1], "cpu").item()
    assert logit == pytest.approx(stock_margin(folder / "chat", model, chat), abs=1e-5)
    names = ", ".join(row.sample_id for row in model.examples)
    assert f"shown as examples: {names}" in capsys.readouterr().out
    reordered, _ = build(folder / "chat", samples.sort_index(ascending=False).copy(), **options)
    assert [row.sample_id for row in reordered.examples] == names.split(", ")
    others = [build(folder / "chat", samples, **options, draw=k)[0].examples for k in range(1, 4)]
    assert any([row.sample_id for row in other] != names.split(", ") for other in others)


@torch.no_grad()
def test_without_a_chat_template_the_prompt_is_taken_as_it_is(folder, samples):
    model, data = build(folder / "plain", samples, PLAIN)
    assert not model.shot_images
    logits = predict(model, data, data.split("test"), "cpu")
    processor = AutoProcessor.from_pretrained(folder / "plain", backend="pil")
    text, image = PLAIN.replace("{text}", TEXTS[1]), Image.open(samples["image"][1])
    scores = model.network(**processor(text=text, images=[image], return_tensors="pt")).logits[
        0, -1
    ]
    yes, no = processor.tokenizer.convert_tokens_to_ids(["Yes", "No"])
    assert logits[1].item() == pytest.approx((scores[yes] - scores[no]).item(), abs=1e-5)
    few, _ = build(folder / "plain", samples, "{text} ?", shots=2)
    (yes, no), asked = few.examples, few.render(few.conversation("look"))
    assert asked == f"{yes.text} ? Yes\n{no.text} ? No\nlook ?"


@torch.no_grad()
def test_the_answer_follows_the_prompt_and_not_the_end_of_the_text(folder, samples):
    model, data = build(folder / "plain", samples, PLAIN)
    expected = predict(model, data, data.split("test"), "cpu")
    words = model.processor.tokenizer
    words.add_special_tokens({"sep_token": "?"})
    end = ("?", words.sep_token_id)
    words.backend_tokenizer.post_processor = TemplateProcessing("$A ?", special_tokens=[end])
    assert predict(model, data, data.split("test"), "cpu").tolist() == expected.tolist()
    # What stands there instead may be anything: nothing is compared then.
    more = ("Yes", words.convert_tokens_to_ids("Yes"))
    words.backend_tokenizer.post_processor = TemplateProcessing("$A Yes", special_tokens=[more])
    with pytest.raises(DataError, match=r"makes the prompt end in .*Yes"):
        predict(model, data, data.split("test"), "cpu")


@torch.no_grad()
def test_half_precision(folder, samples):
    model, data = build(folder / "chat", samples, dtype="bfloat16")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    exact, _ = build(folder / "chat", samples)
    rows = data.split("test")
    found, expected = (predict(m, data, rows, "cpu") for m in (model, exact))
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=0.3)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"prompt": "is it ?"}, r"arguments.prompt: found 'is it \?', expected a question with {t"),
        ({"prompt": None}, "arguments.prompt: found None"),
        ({"answers": ["Yes"]}, r"arguments.answers: found \['Yes'\], expected two words"),
        ({"answers": ["Yes", "Yes it"]}, "Yes and Yes it begin with the same token"),
        ({"shots": 3}, "arguments.shots: found 3, expected an even number"),
        ({"shots": 8}, "4 samples of label 0 are to be shown, but the split train has 3"),
        ({"dtype": "int8"}, "arguments.dtype: found 'int8', expected float32 or bfloat16"),
    ],
)
def test_wrong_arguments_are_named(folder, samples, arguments, expected):
    with pytest.raises(DataError, match=expected):
        build(folder / "chat", samples, **{"prompt": PROMPT, **arguments})


def test_what_a_checkpoint_lacks_is_named(tmp_path, folder, samples):
    with pytest.raises(DataError, match="weights: found none; generative is never trained"):
        input_spec("generative", {}, None)
    with pytest.raises(DataError, match="max_length: found 9; generative cuts no texts, remove it"):
        input_spec("generative", {"weights": str(folder / "chat")}, None, 9)
    tokenizer = AutoProcessor.from_pretrained(folder / "chat").tokenizer
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(DataError, match="holds no processor of images"):
        input_spec("generative", {"weights": str(tmp_path)}, None)
