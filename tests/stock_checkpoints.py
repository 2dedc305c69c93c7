"""Small checkpoints of stock classes with random weights, in the format of the real ones."""

import torch
from transformers import (
    BertTokenizerFast,
    ViltConfig,
    ViltForImageAndTextRetrieval,
    ViltForMaskedLM,
    ViltForQuestionAnswering,
)

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
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
