"""The word-level tokenizer that the from-scratch models use, trained on the training texts."""

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, UNKNOWN, CLS, SEP, MASK = range(len(SPECIAL))


def train_tokenizer(texts, longest_of):
    """A tokenizer ([CLS] words [SEP], lower-cased) that knows exactly the words of `texts`.

    It pads to the longest text of `longest_of` (all splits), so that every job of a run sees
    texts of one length, whichever samples it reads.
    """
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=list(SPECIAL), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    length = max(len(encoding.ids) for encoding in tokenizer.encode_batch(list(longest_of)))
    tokenizer.enable_padding(length=length, pad_id=PAD, pad_token="[PAD]")
    return tokenizer
