"""Zero-shot classification: how well the name of each class, in prompts, fits an image.

A contrastive model compares embeddings (Radford et al. 2021, section 3.1); any other scores every
pair of image and prompt by its logit that they match. Of several prompts a contrastive model's
embeddings are averaged, normalised before and after (section 3.1.4 there), another one's logits.
"""

from functools import partial

import pandas as pd
import torch
import torch.nn.functional as F

from ..models.inputs import EncodedSamples
from .predict import predict

PAIRS = 200  # that go through the network together


def logits_function(model, data, task, names, zero_shot, device):
    """Function, rows of `data` -> logits on the CPU, for `prediction_table`.

    Parameters
    ----------
    task : binary, answers or classes, of the samples; names : its answers or classes
    zero_shot : the config's section of that name, whose prompts count for classes
    """
    if task == "classes":
        prompts = zero_shot["prompts"]
        return partial(class_logits, model, data, names=names, prompts=prompts, device=device)
    return partial(predict, model, data, device=device)


def fill_prompt(prompt, name):
    """The prompt for a class, such as "a photo of a {name}" for "dog"."""
    return prompt.replace("{name}", name)


def class_logits(model, data, rows, names, prompts, device):
    """Logits (N, C) of the classes for the images of the rows `rows`, on the CPU.

    Parameters
    ----------
    model : Model; a contrastive one is asked for its embeddings, any other for its logits
    data : EncodedSamples
    names : the C classes; prompts : texts with {name} in them
    """
    values, scale, bias = class_scores(model, data, rows, names, prompts, device)
    return values * scale + bias


@torch.no_grad()
def class_scores(model, data, rows, names, prompts, device):
    """What `class_logits` are made of: values (N, C), a factor and a summand.

    The values of a contrastive model are cosines; of any other they are the logits already.
    """
    model.eval()
    asked = [
        texts_of(data, [fill_prompt(prompt, name) for name in names], int(rows[0]))
        for prompt in prompts
    ]
    if model.contrastive:
        words = [text_embeddings(model, texts, device)[0] for texts in asked]
        classes = F.normalize(torch.stack(words).mean(0), dim=-1)
        images, scale, bias = image_embeddings(model, data, rows, device)
        return images @ classes.T, scale, bias
    # Image by image, so that what is computed of an image alone is computed once.
    pairs = torch.cartesian_prod(rows, torch.arange(len(names)))
    shape = (len(rows), len(names))
    logits = [pair_logits(model, data, texts, pairs, device).view(shape) for texts in asked]
    return torch.stack(logits).mean(0), 1.0, 0.0


def texts_of(data, texts, row=0):
    """`EncodedSamples` of other texts, for the model of `data`; all show the image of its row."""
    samples = pd.DataFrame({"text": texts, "image": data.samples["image"].iat[row], "label": 0})
    return EncodedSamples(samples, data.spec)


@torch.no_grad()
def text_embeddings(model, texts, device):
    """Normalised embeddings (M, D) of texts on the CPU, and scale and bias of their cosines.

    texts : EncodedSamples; their image is not looked at
    """
    first = torch.zeros(1, dtype=torch.long)
    image = model.prepare("image", model.embed_image(texts.batch(first, device)))

    def embed(rows):
        words = model.embed_text(texts.batch(rows, device, share_images=True))
        return {"text": words, "image": image.rows(torch.zeros_like(rows))}

    return embeddings(model, embed, torch.arange(len(texts)), 0)


@torch.no_grad()
def image_embeddings(model, data, rows, device):
    """Normalised embeddings (N, D) of the images of the rows `rows`, as `text_embeddings`."""
    words = model.prepare("text", model.embed_text(data.batch(rows[:1], device)))

    def embed(part):
        image = model.embed_image(data.batch(part, device))
        return {"text": words.rows(torch.zeros_like(part)), "image": image}

    return embeddings(model, embed, rows, 1)


def embeddings(model, embed, rows, side):
    """Side 0 (texts) or 1 (images) of the pair embeddings of rows, with scale and bias."""
    found = []
    for part in rows.split(PAIRS):
        *both, scale, bias = model.pair_embeddings(embed(part))
        found.append(both[side].float().cpu())
    return torch.cat(found), float(scale), 0.0 if bias is None else float(bias)


@torch.no_grad()
def pair_logits(model, data, texts, pairs, device):
    """Logits (P,) on the CPU that image and text of each pair match.

    Parameters
    ----------
    data, texts : EncodedSamples, of the images and of the texts
    pairs : long (P, 2), rows of both; pairs of one image should follow each other
    """
    logits = []
    for part in pairs.split(PAIRS):
        shown, place = part[:, 0].unique(return_inverse=True)
        image = model.prepare("image", model.embed_image(data.batch(shown, device)))
        words = model.embed_text(texts.batch(part[:, 1], device, share_images=True))
        tokens = {"text": words, "image": image.rows(place.to(device))}
        logits.append(model.logits(tokens).float().cpu())
    return torch.cat(logits) if logits else torch.zeros(0)
