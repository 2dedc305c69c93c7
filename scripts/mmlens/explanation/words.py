"""From pieces of words to words: WordPiece, byte-level BPE and SentencePiece alike."""

import numpy as np


def word_of_token(spans, own=None):
    """Number, from 0 on, of the word that each piece is of.

    Two pieces that follow each other are of one word if nothing lies between them in the text and
    the tokenizer itself has them in one word. What stands between spaces would join a word and its
    comma; and of some tokenizers the whole text is one word. A piece of spaces alone is of the word
    after it.

    spans : (start, end) in the text of every piece, without the space before it and without
        special tokens, as `EncodedSamples.words` gives them
    own : the tokenizer's own number of the word of each; without it spans alone count
    """
    numbers, first = [], None  # first : where the current word begins
    for k, (start, _) in enumerate(spans):
        before = spans[k - 1][1] if k else None
        adjacent = k > 0 and start <= before and (own is None or own[k] == own[k - 1])
        blank = before == first  # the word has no characters yet
        numbers.append(numbers[-1] + (not (adjacent or blank)) if k else 0)
        first = first if adjacent else start
    return numbers


def word_numbers(data, row):
    """`word_of_token` of a row of EncodedSamples, one number for each of its `words`."""
    encoding = data.encodings[row]
    pieces = zip(encoding.word_ids, encoding.special_tokens_mask, strict=True)
    return word_of_token(data.words(row)[1], [word for word, special in pieces if not special])


def merge_pieces(tokens, relevance, words):
    """Words and their relevance, the sum of that of their pieces.

    tokens : the pieces as they stand in the text; relevance : one number for each; words : of
        `word_of_token`

    Returns
    -------
    list of W strings, float array (W,)
    """
    words = np.asarray(words, int)
    count = int(words.max()) + 1 if len(words) else 0
    merged = ["".join(tokens[k] for k in np.flatnonzero(words == word)) for word in range(count)]
    return merged, np.bincount(words, np.asarray(relevance, float), minlength=count)
