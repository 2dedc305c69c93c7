"""A small vision-language model that writes text, with random weights and its processor."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from mmlens.datasets.generated import TEMPLATES
from mmlens.datasets.shapes import COLOURS, SHAPES

SPECIAL = ["<pad>", "<unk>", "<s>", "</s>", "<image>"]
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'].upper() }}: "
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>\n"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %} {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL |= {"intermediate_size": 32}


def save_llava(folder, template=TEMPLATE):
    """LLaVA of 2 x 2 patches that knows the words of the generated data; returns the network."""
    asked = [
        "USER",
        ":",
        "ASSISTANT",
        "Yes",
        "No",
        "Yesterday",
        "is",
        "the",
        "claim",
        "false",
        "?",
        "it",
        "answer",
    ]
    words = {word for text in TEMPLATES for word in text.split() if word[0] != "{"}
    words = [*SPECIAL, *asked, *sorted({*words, *COLOURS, *SHAPES} - set(asked))]
    tokenizer = Tokenizer(models.WordLevel({w: k for k, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    names = dict(zip(("pad", "unk", "bos", "eos"), SPECIAL, strict=False))
    names = {f"{name}_token": token for name, token in names.items()}
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
        ),
        tokenizer=PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, extra_special_tokens={"image_token": "<image>"}, **names
        ),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )
    processor.save_pretrained(folder)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**SMALL, image_size=16, patch_size=8),
        text_config=LlamaConfig(**SMALL, vocab_size=len(words), max_position_embeddings=256),
        image_token_index=SPECIAL.index("<image>"),
        image_seq_length=4,
    )
    torch.manual_seed(0)
    network = LlavaForConditionalGeneration(config).eval()
    with torch.no_grad():  # fresh weights are small, and hardly tell inputs apart
        for parameter in network.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    network.save_pretrained(folder)
    return network
