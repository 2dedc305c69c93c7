"""Generated images of one to three coloured shapes with captions, in the layout of COCO.

The classes are the categories of the objects, such as "red ring". The objects of an image are of
different categories, and each of its captions names all of them, in an order of its own: a caption
does not tell which object is the largest.
"""

from pathlib import Path

import numpy as np

from ..files import write_json
from . import register_dataset, register_generator
from .coco import read as read_coco
from .generated import CATEGORIES, VERSION, ImageWriter, place, shade
from .shapes import Object, background

ANNOTATIONS = {
    "captions": "annotations/captions.json",
    "instances": "annotations/instances.json",
}
# How many objects an image has. Half of them have one, whose category alone can be the answer.
COUNTS = (1, 1, 2, 3)
CAPTIONS = 2  # of an image
TEMPLATES = (
    "{objects}",
    "look , {objects} here",
    "a picture of {objects}",
    "there is {objects} in this picture",
    "i can see {objects}",
    "somebody painted {objects} today",
)


def make_scene(rng, size):
    """Objects of one to three different categories at random places."""
    count = COUNTS[rng.integers(len(COUNTS))]
    names = rng.choice(CATEGORIES, count, replace=False).tolist()
    objects = []
    for name, (x, y, radius) in zip(names, place(rng, size, count), strict=True):
        colour, shape = name.split()
        angle = rng.uniform(-0.35, 0.35)
        objects.append(Object(shape, colour, shade(rng, colour), x, y, radius, angle))
    return objects


def make_caption(rng, objects):
    """A sentence that names all objects in a random order, as in "look , a red ring here"."""
    named = [f"a {item.colour} {item.shape}" for item in rng.permutation(np.array(objects, object))]
    listed = " and ".join(filter(None, (" , ".join(named[:-1]), named[-1])))
    return TEMPLATES[rng.integers(len(TEMPLATES))].format(objects=listed)


@register_generator("generated_captions")
def generate(root, *, images, seed=0, size=96, label="largest"):
    """Write the whole data set below `root`; the same arguments give the same bytes.

    Parameters
    ----------
    images : number of images of all splits; a greater number keeps the first ones
    size : side of the images in pixels
    label : of the reader; no file depends on it
    """
    root = Path(root)
    (root / "img").mkdir(parents=True, exist_ok=True)
    writer, captions = ImageWriter(root, "", 1, "captions"), []
    for index in range(images):
        rng = np.random.default_rng([VERSION, seed, *b"captions", index])
        objects = make_scene(rng, size)
        image_id = writer.image_id
        writer.add_image(background(rng, size), objects)
        for _ in range(CAPTIONS):
            caption = make_caption(rng, objects)
            captions.append({"id": len(captions) + 1, "image_id": image_id, "caption": caption})
    writer.write()
    write_json(
        root / ANNOTATIONS["captions"],
        {"info": writer.info, "images": writer.images, "annotations": captions},
    )


@register_dataset("generated_captions", task="classes")
def read(settings):
    """Read the generated files as COCO files; a split is drawn for each image."""
    reading = read_coco(
        {
            "root": settings["root"],
            "annotations": ANNOTATIONS,
            "images": "img",
            "count": None,
            "split": "by_image",
            "label": settings["label"],
            "broken": "error",
        }
    )
    # Nobody is in these pictures.
    reading.samples = reading.samples.drop(columns="group_gender_proxy")
    return reading
