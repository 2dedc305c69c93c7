"""METER with some tokens of one modality missing: what no removal changes is computed once.

Nothing changes with the tokens of the other modality before the two meet: its tower, and its
self-attention in the first cross-modal pair. Linear layers on single tokens change with no other
token, so they go before the gathering. Of the last pair only the first tokens are computed, which
alone are read.
"""

from dataclasses import replace


def words_removal(model, tokens):
    """`Model.removal` of words: function (rows, index) -> logits.

    model : Meter; tokens : {modality: Tokens} of the samples, the image after its tower
    """
    text, image = tokens["text"], tokens["image"]
    by_text, by_image = model.network.pairs()[0]
    met_itself = by_image.attention(image.values, image.valid, image.values)

    def logits(rows, index):
        part, patches = model.prepare("text", text.gather(index, rows)), image.rows(rows)
        words = part.values
        return answer(
            model,
            by_text(words, part.valid, patches.values, patches.valid),
            part.valid,
            by_image.after_itself(met_itself[rows], words, part.valid),
            patches.valid,
        )

    return logits


def patches_removal(model, tokens):
    """The same of image tokens, of samples of which both streams are after their towers."""
    text, image = tokens["text"], tokens["image"]
    by_text, by_image = model.network.pairs()[0]
    words = text.values
    met_itself = by_text.attention(words, text.valid, words)
    block = by_image.attention
    projected = [
        replace(image, values=layer(image.values))
        for layer in (block["self"].query, block["self"].key, block["self"].value)
    ]

    def logits(rows, index):
        valid, part = text.valid[rows], image.gather(index, rows)
        own = [values.gather(index, rows).values for values in projected]
        own = block["output"](block["self"].attend(*own, part.valid), part.values)
        return answer(
            model,
            by_text.after_itself(met_itself[rows], part.values, part.valid),
            valid,
            by_image.after_itself(own, words[rows], valid),
            part.valid,
        )

    return logits


def answer(model, text, text_valid, image, image_valid):
    """Logits from the states after the first cross-modal pair."""
    joined = model.network.join(text, text_valid, image, image_valid, start=1, read=1)
    return model.classify(dict(zip(("text", "image"), joined, strict=True)))
