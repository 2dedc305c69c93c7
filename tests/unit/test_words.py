"""Pieces become words, whatever tokenizer cut them."""

import numpy as np
import pandas as pd
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from unimodal_checkpoints import save_text

from mmlens.explanation.words import merge_pieces, word_numbers, word_of_token
from mmlens.models import input_spec
from mmlens.models.inputs import EncodedSamples, InputSpec

TEXTS = ["Redder rings", "a, don't", "über 😀!", "a  bb\n\tccc", "  a", ""]
# By the kind of tokenizer; those of SentencePiece divide a text at spaces alone, if at all.
SPACES = [["Redder", "rings"], ["a,", "don't"], ["über", "😀!"], ["a", "bb", "ccc"], ["a"], []]
WORDS = {
    "gpt2": [*SPACES[:1], ["a", ",", "don", "'t"], ["über", "😀!"], *SPACES[3:]],
    "bert": [*SPACES[:1], ["a", ",", "don", "'", "t"], ["über", "😀", "!"], *SPACES[3:]],
    "sentencepiece": SPACES,
    "sentencepiece of whole texts": SPACES,
}
WORDS["roberta"] = WORDS["gpt2"]


def spec_of(kind, folder):
    if kind in ("gpt2", "bert", "roberta"):
        letters = " ".join(sorted(set("".join(TEXTS))))  # so that no word is known as a whole
        save_text(folder, kind, texts=[letters])
        return input_spec("text", {"weights": str(folder)}, None)
    letters = sorted(set("▁".join(TEXTS)))
    scores = [("<unk>", 0.0), *((letter, -5.0) for letter in letters), ("▁ring", -2.0)]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=kind == "sentencepiece")
    return InputSpec(tokenizer, 50, 0, None)


@pytest.mark.parametrize("kind", WORDS)
def test_words_of_every_kind_of_tokenizer(tmp_path, kind):
    samples = pd.DataFrame({"text": TEXTS, "image": "", "label": 1})
    data = EncodedSamples(samples, spec_of(kind, tmp_path))
    pieces = 0
    for row, expected in enumerate(WORDS[kind]):
        tokens, _ = data.words(row)
        numbers = word_numbers(data, row)
        relevance = np.arange(1.0, len(tokens) + 1)
        words, values = merge_pieces(tokens, relevance, numbers)
        assert words == expected
        assert numbers == sorted(numbers)
        for word, value in enumerate(values):
            assert value == relevance[np.array(numbers) == word].sum()
        pieces += len(tokens) - len(words)
    assert pieces > 5


def test_spans_alone_tell_words_where_there_is_no_tokenizer():
    assert word_of_token([(0, 3), (3, 4), (5, 7), (7, 7), (9, 9), (10, 12)]) == [0, 0, 1, 1, 2, 2]
    assert word_of_token([(0, 3), (3, 4), (5, 7)], [0, 1, 1]) == [0, 1, 2]
    assert word_of_token([]) == []
