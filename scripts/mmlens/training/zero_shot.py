"""Zero-shot classification: how well the name of each class, in a prompt, fits an image.

A contrastive model compares embeddings (Radford et al. 2021, section 3.1); any other scores every
pair of image and prompt by its logit that they match.
"""

from functools import partial

import pandas as pd
import torch

from ..models.inputs import EncodedSamples
from .predict import predict

PAIRS = 200  # that go through the network together


def logits_function(model, data, task, names, zero_shot, device):
    """Function, rows of `data` -> logits on the CPU, for `prediction_table`.

    Parameters
    ----------
    task : binary, answers or classes, of the samples; names : its answers or classes
    zero_shot : the config's section of that name, which counts for classes
    """
    if task == "classes":
        return partial(class_logits, model, data, names=names, device=device, **zero_shot)
    return partial(predict, model, data, device=device)


def fill_prompt(prompt, name):
    """The prompt for a class, such as "a photo of a {name}" for "dog"."""
    return prompt.replace("{name}", name)


@torch.no_grad()
def class_logits(model, data, rows, names, prompt, device):
    """Logits (N, C) of the classes for the images of the rows `rows`, on the CPU.

    Parameters
    ----------
    model : Model; one with `pair_embeddings` is asked for those, any other for its logits
    data : EncodedSamples
    names : the C classes; prompt : text with {name} in it
    """
    model.eval()
    texts = [fill_prompt(prompt, name) for name in names]
    shown = data.samples["image"].iat[int(rows[0])]
    samples = pd.DataFrame({"text": texts, "image": shown, "label": 0})
    prompts = EncodedSamples(samples, data.spec)
    words = model.embed_text(prompts.batch(torch.arange(len(texts)), device, share_images=True))
    pairs = hasattr(model, "pair_embeddings")
    score = similarities if pairs else match_logits
    size = PAIRS if pairs else max(1, PAIRS // len(names))
    return torch.cat(
        [
            score(model, words, model.embed_image(data.batch(part, device))).float().cpu()
            for part in rows.split(size)
        ]
    )


def similarities(model, words, images):
    """Scaled similarities (B, C) of B images to C prompts; words, images : their Tokens."""
    count = max(len(words.valid), len(images.valid))
    # The two sides do not see each other; each is filled up to the length of the other.
    fill = torch.arange(count, device=words.valid.device)
    tokens = {
        "text": words.rows(fill % len(words.valid)),
        "image": images.rows(fill % len(images.valid)),
    }
    text, image, scale, bias = model.pair_embeddings(tokens)
    similarity = image[: len(images.valid)] @ text[: len(words.valid)].T * scale
    return similarity if bias is None else similarity + bias


def match_logits(model, words, images):
    """Logits (B, C) that image and prompt match."""
    b, c = len(images.valid), len(words.valid)
    device = words.valid.device
    tokens = {
        "text": words.rows(torch.arange(c, device=device).repeat(b)),
        "image": images.rows(torch.arange(b, device=device).repeat_interleave(c)),
    }
    return model(tokens).view(b, c)
