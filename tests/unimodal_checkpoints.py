"""Small checkpoints of texts alone and of images alone, in the formats of the real ones."""

import json

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertTokenizer,
    ConvNextImageProcessor,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    GPT2Tokenizer,
    ResNetConfig,
    ResNetForImageClassification,
    RobertaConfig,
    RobertaTokenizer,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    XLMRobertaConfig,
)

WORD_PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
GPT2 = ["<|endoftext|>"]
TEXTS = ["a red ring and a blue ball", "the ball lies on the table", "two green rings"]
PLACES = 20  # tokens of a text
CONFIGS = {
    "bert": BertConfig,
    "distilbert": DistilBertConfig,
    "electra": ElectraConfig,
    "gpt2": GPT2Config,
    "roberta": RobertaConfig,
    "xlm-roberta": XLMRobertaConfig,
}


def save_text(folder, kind, network=AutoModelForSequenceClassification, texts=TEXTS, **sizes):
    """A text encoder of a kind of CONFIGS, with its tokenizer; returns the network.

    network : its class, perhaps with another head
    """
    tokenizer = tokenizer_of(kind, texts)
    tokenizer.save_pretrained(folder)
    own = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    own |= (
        {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32} if kind == "distilbert" else {}
    )
    own |= {"intermediate_size": 32} if kind not in ("distilbert", "gpt2") else {}
    own |= {"embedding_size": 8} if kind == "electra" else {}  # as published, not the hidden size
    own |= {"vocab_size": len(tokenizer), "initializer_range": 0.3, "num_labels": 2}
    # RoBERTa's places begin after that of padding.
    first = 2 if "roberta" in kind else 0
    own |= {"n_positions" if kind == "gpt2" else "max_position_embeddings": PLACES + first}
    own |= {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id")}
    if kind != "gpt2":
        own["pad_token_id"] = tokenizer.pad_token_id
    config = CONFIGS[kind](**own | sizes)
    torch.manual_seed(0)
    build = network.from_config if hasattr(network, "from_config") else network
    return save(shaken(build(config)), folder)


@torch.no_grad()
def shaken(network):
    """A network none of whose parameters is 0 or 1, as fresh biases and norms are."""
    for parameter in network.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    return network.eval()


def save(network, folder):
    network.save_pretrained(folder)
    return network


def tokenizer_of(kind, texts):
    """The tokenizer of a kind of text encoder that knows the words of `texts`."""
    if kind not in ("gpt2", "roberta", "xlm-roberta"):
        words = sorted({word for text in texts for word in text.lower().split()})
        letters = sorted({letter for word in words for letter in word})
        pieces = [*WORD_PIECES, *words, *letters, *(f"##{letter}" for letter in letters)]
        known = dict.fromkeys(pieces)
        return BertTokenizer(vocab={piece: k for k, piece in enumerate(known)})
    special = GPT2 if kind == "gpt2" else ROBERTA
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=special,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    state = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(merge) for merge in state["merges"]]
    return (GPT2Tokenizer if kind == "gpt2" else RobertaTokenizer)(
        vocab=state["vocab"], merges=merges
    )


def save_vit(folder, network=ViTForImageClassification, **sizes):
    """A ViT of 4 x 4 patches with its image processor; returns the network."""
    own = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_labels": 2}
    own |= {"intermediate_size": 32, "image_size": 32, "patch_size": 8, "initializer_range": 0.3}
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    torch.manual_seed(0)
    return save(shaken(network(ViTConfig(**own | sizes))), folder)


def save_resnet(folder, network=ResNetForImageClassification, **sizes):
    """A ResNet of 3 x 3 cells with its image processor; returns the network."""
    own = {"embedding_size": 4, "hidden_sizes": [8, 12], "depths": [1, 2], "num_labels": 2}
    own |= {"layer_type": "bottleneck"}
    ConvNextImageProcessor(size={"shortest_edge": 20}, crop_pct=0.875).save_pretrained(folder)
    torch.manual_seed(0)
    resnet = shaken(network(ResNetConfig(**own | sizes)))
    for module in resnet.modules():  # as after some training
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    return save(resnet, folder)
