"""Vision-language models that write text, asked a question that two words answer."""

import inspect

import torch
from torch import nn
from transformers import AutoModelForImageTextToText, AutoProcessor

from ..datasets.images import open_rgb
from ..files import seed_from
from ..table import DataError
from . import register_model
from .folders import folder_of
from .inputs import InputSpec
from .stock import load_network

PLACEHOLDER = "{text}"
DTYPES = ("float32", "bfloat16", "float16")
PROCESSORS = ("processor_config.json", "preprocessor_config.json")
WHOLE = 10**9  # tokens: no text is cut


@register_model(
    "generative",
    modalities=("text", "image"),
    pretrained=True,
    trained=False,
    explained=False,
    tasks=("binary",),
)
class Generative(nn.Module):
    """Any AutoModelForImageTextToText, zero-shot or few-shot; nothing is trained or generated.

    The logit is the difference of the scores of both answers' first tokens, in the place where an
    answer begins; its sigmoid is the probability of the first answer, of the two. Samples are
    computed one by one, so that nothing is padded. There are no tokens that a perturbation could
    remove: every checkpoint's processor puts text and image together in its own way.

    What is asked goes through the processor's chat template. Without one it is taken as it is, and
    has to hold the image token itself where the processor wants one.

    Parameters
    ----------
    vocabulary_size, max_length, features, width, heads, image_size : not used
    weights : folder of save_pretrained, with the processor
    prompt : the question, with {text} where the sample's text belongs
    answers : words for label 1 and for label 0
    shots : even number of training samples that are shown with their answers before the question,
        both labels in turn: the first ones by a hash of `draw` and their ids
    shot_images : whether these come with their images, or as text alone; by default with them if
        there is a chat template, whose messages may hold several. Networks that were trained on one
        image at a time take more, but may understand them badly
    draw : another number is another choice of these samples
    dtype : of the network: float32, bfloat16 or float16
    """

    contrastive = pair_logit = False  # as in `Model`

    def __init__(
        self,
        vocabulary_size,
        max_length,
        features=None,
        width=None,
        heads=None,
        image_size=None,
        *,
        weights=None,
        prompt=None,
        answers=("Yes", "No"),
        shots=0,
        shot_images=None,
        draw=0,
        dtype="float32",
    ):
        super().__init__()
        check_arguments(weights, prompt, answers, shots, dtype)
        folder = folder_of(weights)
        self.prompt, self.answers, self.shots, self.draw = prompt, tuple(answers), shots, draw
        self.processor = read_whole_processor(folder)
        self.has_template = self.processor.chat_template is not None
        self.shot_images = self.has_template if shot_images is None else shot_images
        self.answer_ids = self.first_tokens()
        self.examples = []
        self.network, self.report = load_network(AutoModelForImageTextToText, folder, dtype=dtype)
        if self.network.config.is_encoder_decoder:
            problem = f"{folder}: has an encoder and a decoder; expected a decoder alone"
            raise DataError("variants", [problem])
        known = inspect.signature(self.network.forward).parameters
        self.options = {"logits_to_keep": 1} if "logits_to_keep" in known else {}

    @classmethod
    def input_spec(cls, settings, tokenizer, max_length=None):
        """The `InputSpec`: texts and image files go to the checkpoint's own processor."""
        if max_length is not None:
            problem = f"max_length: found {max_length}; {cls.name} cuts no texts, remove it"
            raise DataError("variants", [problem])
        if settings.get("weights") is None:
            raise DataError("variants", [NO_WEIGHTS])
        words = read_whole_processor(folder_of(settings["weights"])).tokenizer
        return InputSpec(words.backend_tokenizer, WHOLE, words.pad_token_id or 0, None, raw=True)

    def read_examples(self, data):
        """Choose what few-shot prompts show, from the split train of an `EncodedSamples`.

        Raises
        ------
        DataError if it has too few samples of a label.
        """
        rows = data.samples.iloc[data.split("train").numpy()]
        order = rows["sample_id"].map(lambda sample_id: seed_from("shots", self.draw, sample_id))
        rows = rows.loc[order.sort_values(kind="stable").index]
        count = self.shots // 2
        chosen = [list(rows[rows["label"] == label][:count].itertuples()) for label in (1, 0)]
        problems = [
            f"arguments.shots: {count} samples of label {label} are to be shown, but the split "
            f"train has {len(found)}; lower it"
            for label, found in zip((1, 0), chosen, strict=True)
            if len(found) < count
        ]
        if problems:
            raise DataError("variants", problems)
        self.examples = [row for pair in zip(*chosen, strict=True) for row in pair]
        print(f"shown as examples: {', '.join(row.sample_id for row in self.examples) or 'none'}")
        print(f"asked: {self.render(self.conversation('{text}'))!r}")
        print(f"compared: tokens {self.answer_ids} of {' and '.join(self.answers)}")

    def embed(self, batch):
        """(text, image file) of every sample: they are read when their turn comes."""
        return list(zip(batch.texts, batch.paths, strict=True))

    embed_shared = embed  # nothing is computed yet

    def forward(self, samples):
        """Logits (B,) of label 1 of B samples as `embed` gives them."""
        return torch.cat([self.margin(text, path) for text, path in samples])

    logits = forward

    def margin(self, text, path):
        """Logit (1,) of the first answer against the second one."""
        inputs = self.inputs(self.conversation(text), path)
        weight = next(self.network.parameters())
        inputs = inputs.to(weight.device, weight.dtype)  # integers keep their type
        scores = self.network(**inputs, **self.options).logits[:, -1].float()
        return scores[:, self.answer_ids[0]] - scores[:, self.answer_ids[1]]

    def conversation(self, text):
        """What is said, as (role, text, whether with an image): the examples and the question."""
        said = []
        for row in self.examples:
            said.append(("user", self.prompt.replace(PLACEHOLDER, row.text), self.shot_images))
            said.append(("assistant", self.answers[1 - row.label], False))
        return [*said, ("user", self.prompt.replace(PLACEHOLDER, text), True)]

    def inputs(self, conversation, path):
        """Inputs of the network for a conversation whose question is about an image file."""
        shown = [row.image for row in self.examples] if self.shot_images else []
        images = [open_rgb(image) for image in [*shown, path]]
        if not self.has_template:
            return self.plain_inputs(self.render(conversation), images)
        return self.processor.apply_chat_template(
            messages(conversation, images),
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )

    def plain_inputs(self, text, images):
        """Inputs for a text without a chat template, which end where the text ends.

        Raises
        ------
        DataError if the processor puts more after the text than a token that ends it.
        """
        made = self.processor(text=text, images=images, return_tensors="pt")
        made.pop("labels", None)  # for training
        words = self.processor.tokenizer
        count = made["input_ids"].shape[1]
        if made["input_ids"][0, -1] in (words.sep_token_id, words.eos_token_id):
            sequences = [key for key, value in made.items() if value.shape[1:] == (count,)]
            made.update({key: made[key][:, :-1] for key in sequences})
        last = words.encode(text, add_special_tokens=False)[-1]
        if made["input_ids"][0, -1] != last:
            end = words.decode(made["input_ids"][0, -3:])
            problem = f"weights: the processor makes the prompt end in {end!r}, not as it is given"
            raise DataError("variants", [f"{problem}; such a network cannot be asked"])
        return made

    def render(self, conversation):
        """A conversation as one text, which ends where the answer begins."""
        if self.has_template:
            images = [None] * sum(with_image for _, _, with_image in conversation)
            chat = messages(conversation, images)
            return self.processor.apply_chat_template(chat, add_generation_prompt=True)
        text = ""
        for role, said, _ in conversation:
            text += f"{gap_after(text)}{said}\n" if role == "assistant" else said
        return text

    def first_tokens(self):
        """Numbers of the tokens that the two answers begin with, where they are given.

        Raises
        ------
        DataError if they begin alike, or melt with what stands before them.
        """
        asked = self.render([("user", self.prompt, True)])
        encode = self.processor.tokenizer.encode
        before = encode(asked, add_special_tokens=False)
        found = []
        for answer in self.answers:
            ids = encode(f"{asked}{gap_after(asked)}{answer}", add_special_tokens=False)
            if ids[: len(before)] != before or len(ids) == len(before):
                problem = f"arguments.prompt: {asked!r} and {answer!r} are not tokens of their own"
                raise DataError("variants", [f"{problem}; let the prompt end otherwise"])
            found.append(ids[len(before)])
        if found[0] == found[1]:
            problem = f"arguments.answers: {' and '.join(self.answers)} begin with the same token"
            raise DataError("variants", [f"{problem}; choose other words"])
        return tuple(found)


NO_WEIGHTS = "weights: found none; generative is never trained, name a checkpoint"


def check_arguments(weights, prompt, answers, shots, dtype):
    """DataError naming everything that is wrong with the arguments of a variant."""
    problems = [] if weights is not None else [NO_WEIGHTS]
    if not isinstance(prompt, str) or PLACEHOLDER not in prompt:
        problems.append(
            f"arguments.prompt: found {prompt!r}, expected a question with {PLACEHOLDER} in it"
        )
    if len(answers) != 2 or not all(isinstance(a, str) and a.strip() for a in answers):
        problems.append(
            f"arguments.answers: found {answers!r}, expected two words, for label 1 and label 0"
        )
    if shots < 0 or shots % 2:
        problems.append(f"arguments.shots: found {shots}, expected an even number, half per label")
    if dtype not in DTYPES:
        problems.append(f"arguments.dtype: found {dtype!r}, expected {' or '.join(DTYPES)}")
    if problems:
        raise DataError("variants", problems)


def read_whole_processor(folder):
    """The processor of texts and images beside a checkpoint; DataError if there is none."""
    if not any((folder / name).is_file() for name in PROCESSORS):
        problem = f"{folder}: holds no processor of images ({' or '.join(PROCESSORS)})"
        raise DataError("weights", [f"{problem}; download the whole repository"])
    return AutoProcessor.from_pretrained(folder, backend="pil")


def messages(conversation, images):
    """A conversation in the form of chat templates, each message's image before its text."""
    left = iter(images)
    return [
        {
            "role": role,
            "content": [
                *([{"type": "image", "image": next(left)}] if with_image else []),
                {"type": "text", "text": said},
            ],
        }
        for role, said, with_image in conversation
    ]


def gap_after(text):
    """What stands between a text and an answer to it: nothing after white space, else a space."""
    return "" if text[-1:].isspace() else " "
