"""Small checkpoints of stock classes with random weights, in the format of the real ones."""

import json
import string

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertTokenizerFast,
    BlipConfig,
    BlipForImageTextRetrieval,
    BlipImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    ViltConfig,
    ViltForImageAndTextRetrieval,
    ViltForMaskedLM,
    ViltForQuestionAnswering,
)

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = 30  # of the vocabulary
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL |= {"intermediate_size": 32, "image_size": 32, "patch_size": 8, "initializer_range": 0.3}


def words_of(count=WORDS, own=()):
    """A vocabulary of so many words: special ones, `own` and numbered ones."""
    first = [*SPECIAL, *own]
    return [*first, *(f"word{k}" for k in range(count - len(first)))]


def save_bert_tokenizer(folder, words=None):
    """A tokenizer of BERT's kind, as tokenizer.json."""
    vocabulary = {word: k for k, word in enumerate(words or words_of())}
    BertTokenizerFast(vocab=vocabulary).save_pretrained(folder)


def save_vilt(folder, head=ViltForQuestionAnswering, labels=3, words=None, **sizes):
    """ViLT with one of its heads; returns the network."""
    vocabulary = words or words_of()
    config = {**SMALL, "max_position_embeddings": 12, "num_labels": labels, **sizes}
    torch.manual_seed(0)
    network = head(ViltConfig(vocab_size=len(vocabulary), **config)).eval()
    with torch.no_grad():  # positions start as zeros, biases too
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    network.save_pretrained(folder)
    save_bert_tokenizer(folder, vocabulary)
    return network


VILT_HEADS = (ViltForQuestionAnswering, ViltForImageAndTextRetrieval, ViltForMaskedLM)


def two_towers(**words):
    """Sizes of two towers, by the keys of their configs."""
    text = {key: SMALL[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
    image = {key: SMALL[key] for key in (*text, "intermediate_size", "image_size", "patch_size")}
    text |= {"intermediate_size": 32, **words}
    return {"text_config": text, "vision_config": {**image, "hidden_size": 24}}


def save_towers(folder, network, processor):
    """A network whose weights all matter, with its image processor; returns it."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    network.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return network


def save_clip(folder, **sizes):
    """CLIP with a tokenizer that knows single letters; images are cut to a square."""
    letters = [f"{letter}{end}" for end in ("", "</w>") for letter in string.ascii_lowercase]
    vocabulary = {token: k for k, token in enumerate([*letters, START, END])}
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=20).save_pretrained(folder)
    ids = {"bos_token_id": vocabulary[START], "eos_token_id": vocabulary[END]}
    words = {"vocab_size": len(vocabulary), "max_position_embeddings": 20, **ids}
    torch.manual_seed(0)
    config = CLIPConfig(projection_dim=12, **two_towers(**words), **sizes)
    config.vision_config.projection_dim = config.text_config.projection_dim = 12  # as published
    network = CLIPModel(config)
    crop = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    return save_towers(folder, network, CLIPImageProcessor(**crop))


def save_siglip(folder, tokenizer_class="GemmaTokenizer", words=None):
    """SigLIP of fixed resolution; the tokenizer fills up texts, as that of SigLIP 2 does."""
    vocabulary = {w: k for k, w in enumerate(["<pad>", "<eos>", "<unk>", *(words or words_of())])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=16, **special)
    fast.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text()) | {"tokenizer_class": tokenizer_class}
    path.write_text(json.dumps(settings))
    torch.manual_seed(0)
    words = {"vocab_size": len(vocabulary), "max_position_embeddings": 16, "projection_size": 24}
    network = SiglipModel(SiglipConfig(**two_towers(**words)))
    stretch = SiglipImageProcessor(size={"height": 32, "width": 32}, resample=2)
    return save_towers(folder, network, stretch)


def save_blip(folder, head=BlipForImageTextRetrieval, words=None):
    """BLIP with one of its heads and a tokenizer of BERT's kind."""
    vocabulary = words or words_of()
    save_bert_tokenizer(folder, vocabulary)
    own = {"vocab_size": len(vocabulary), "max_position_embeddings": 16, "initializer_range": 0.3}
    own |= {"bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3}
    sizes = two_towers(**own)
    sizes["vision_config"]["initializer_range"] = 0.3
    torch.manual_seed(0)
    network = head(BlipConfig(**sizes, image_text_hidden_size=10))
    stretch = BlipImageProcessor(size={"height": 32, "width": 32})
    return save_towers(folder, network, stretch)
