"""Generated questions about coloured shapes, with ground truth: "what colour is the ring ?".

Samples come in quads, two images x two questions. The images are those of the stratum swap of the
generated claims: two objects exchange their colours. The questions ask about each of the two, so
both have two answers, one per image, and they have the same two on either image: no single modality
knows more than half of the answers, and neither does who only counts shapes and colours. The
strata are what is asked for:

- colour: the shape is named in the question, its colour is the answer;
- shape: the colour is named, the shape that has it is the answer.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from ..table import write_csv
from . import register_dataset, register_generator
from .csv import read as read_csv
from .generated import VERSION, ImageWriter, make_quad, spans_of

TABLE = "questions.csv"
# By what they ask for.
TEMPLATES = {
    "colour": (
        "what colour is the {word} ?",
        "which colour does the {word} have ?",
        "the {word} has which colour ?",
        "look at the {word} , what is its colour ?",
    ),
    "shape": (
        "which shape is {word} ?",
        "what is the shape of the {word} thing ?",
        "the {word} one has which shape ?",
        "there is something {word} , what shape is it ?",
    ),
}
NAMED_BY = {"colour": "shape", "shape": "colour"}


def make_questions(rng, scenes, asked):
    """The two questions of a quad, as asked of each of its two images.

    Parameters
    ----------
    rng : numpy Generator, which chooses the template
    scenes : two lists of Object, of the stratum swap of `make_quad`
    asked : {"colour", "shape"}

    Returns
    -------
    one list per image of dicts with text, spans (the start and end characters of the word that
    names the object), place (of the object in its scene), shape, colour and answer
    """
    template = TEMPLATES[asked][rng.integers(len(TEMPLATES[asked]))]
    key = NAMED_BY[asked]
    words = [getattr(item, key) for item in scenes[0][:2]]
    return [[question(template, word, scene, key, asked) for word in words] for scene in scenes]


def question(template, word, scene, key, asked):
    """One question about the object of a scene whose `key` is `word`."""
    text = template.format(word=word)
    place = next(place for place, item in enumerate(scene) if getattr(item, key) == word)
    item = scene[place]
    return {
        "text": text,
        "spans": spans_of(text, word),
        "place": place,
        "shape": item.shape,
        "colour": item.colour,
        "answer": getattr(item, asked),
    }


@register_generator("generated_questions")
def generate(root, *, quads, seed=0, size=96):
    """Write the whole data set below `root`; the same arguments give the same bytes.

    That is img/, COCO instances, and one table in the form of the data set csv, with answers.

    Parameters
    ----------
    quads : {split: number of quads}; half of each ask for colours, half for shapes. A quad never
        crosses splits, and another number of quads keeps the first ones.
    size : side of the images in pixels
    """
    root = Path(root)
    (root / "img").mkdir(parents=True, exist_ok=True)
    rows, image_id = [], 1
    for split, count in quads.items():
        writer = ImageWriter(root, split, image_id, "questions")
        for index in range(count):
            rng = np.random.default_rng([VERSION, seed, *split.encode(), index])
            asked = ("colour", "shape")[index % 2]
            canvas, scenes, _ = make_quad(rng, size, "swap")
            for scene, questions in zip(scenes, make_questions(rng, scenes, asked), strict=True):
                image, first = writer.add_image(canvas, scene)
                for said in questions:
                    rows.append(
                        {
                            "sample_id": f"{len(rows):05d}",
                            "split": split,
                            "image": f"img/{image}",
                            "text": said["text"],
                            "answers": said["answer"],
                            "quad_id": f"{split}{index:05d}",
                            "cluster_id": f"{split}{index:05d}",
                            "group_shape": said["shape"],
                            "group_colour": said["colour"],
                            "group_stratum": asked,
                            "named_region": first + said["place"],
                            "word_spans": json.dumps(said["spans"]),
                        }
                    )
        writer.write()
        image_id = writer.image_id
    write_csv(root / TABLE, pd.DataFrame(rows))


@register_dataset("generated_questions", task="answers")
def read(settings):
    """Read the generated table as one of a user's own, with the instances of its images."""
    instances = {split: f"annotations/instances_{split}.json" for split in settings["quads"]}
    return read_csv({"root": settings["root"], "table": TABLE, "instances": instances})
