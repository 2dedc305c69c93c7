"""The generated data set: true and false claims about coloured shapes, with ground truth.

A sample is an image of three shapes and a claim such as "the ring is blue"; label 1 means that
the claim is false. Samples come in quads, two images x two claims: image i makes claim i true,
so every image and every text occurs once with each label and no single modality knows the label.

- easy: the second image repaints the named object in a colour that the first does not contain;
  the presence of the claimed colour decides.
- swap: the second image exchanges the colours of two objects; both images hold the same shapes
  and the same colours, only their binding decides.

The files written are those of the real data sets (Hateful-Memes jsonl + img/, COCO instances and
captions, VQA v2 questions and annotations), so that the readers of real data read them.
"""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from pycocotools import mask as coco_mask

from ..files import write_json, write_text
from ..table import write_csv
from . import register_dataset, register_generator
from .hateful_memes import read_files
from .shapes import COLOURS, SHAPES, Object, background, draw

VERSION = 1
TEMPLATES = (
    "the {shape} is {colour}",
    "there is a {colour} {shape} in this picture",
    "nobody expected a {colour} {shape} today",
    "look , a {colour} {shape} right here",
    "i can see one {colour} {shape}",
    "my favourite thing is the {colour} {shape}",
    "the {shape} they painted looks {colour}",
    "what a nice {colour} {shape} this is",
)
CATEGORIES = [f"{colour} {shape}" for shape in SHAPES for colour in COLOURS]
LEAKS = ("none", "word", "colour_count")
# Of a planted bias: claims of the first ones are only ever true, of the others only ever false.
TRUE_COLOURS = list(COLOURS)[: len(COLOURS) // 2]


def place(rng, size, count):
    """Centres and radii of `count` discs that lie inside the image and do not touch."""
    placed = []
    while len(placed) < count:
        radius = rng.uniform(10, 15) * size / 96
        x, y = rng.uniform(radius + 1, size - radius - 1, 2)
        if all(np.hypot(x - a, y - b) > radius + r + 2 for a, b, r in placed):
            placed.append((x, y, radius))
    return placed


def shade(rng, colour):
    """The named colour with a little jitter, as an RGB tuple."""
    return tuple(np.clip(np.array(COLOURS[colour]) + rng.integers(-16, 17, 3), 0, 255).tolist())


def make_quad(rng, size, stratum, leak="none", bias=None):
    """One quad: two scenes (lists of `Object`, the named object first) and two claims.

    With a bias towards the named shape, the first claim is of TRUE_COLOURS, the other is not.

    Returns
    -------
    canvas : float array (size, size, 3), the background both images share
    scenes : two lists of Object
    claims : two dicts with text and the (start, end) character spans of its colour and shape
    """
    shapes = rng.choice(list(SHAPES), 3, replace=False).tolist()
    colours = rng.choice(list(COLOURS), 4, replace=False).tolist()
    if bias == shapes[0]:
        colours.sort(key=lambda colour: colour not in TRUE_COLOURS)
        colours = [colours[0], colours[-1], *colours[1:-1]]
    first, second = colours[0], colours[1]
    if stratum == "easy":
        paintings = ([first, *colours[2:]], [second, *colours[2:]])
    elif leak == "colour_count":
        # Deliberately broken: the claimed colour occurs twice if and only if the claim is true.
        paintings = ([first, second, first], [second, first, second])
    else:
        paintings = ([first, second, colours[2]], [second, first, colours[2]])
    geometry = [(*spot, rng.uniform(-0.35, 0.35)) for spot in place(rng, size, 3)]
    shades = {colour: shade(rng, colour) for colour in colours}
    scenes = [
        [
            Object(shape, colour, shades[colour], x, y, radius, angle)
            for shape, colour, (x, y, radius, angle) in zip(shapes, painting, geometry, strict=True)
        ]
        for painting in paintings
    ]
    template = TEMPLATES[rng.integers(len(TEMPLATES))]
    claims = [claim(template, shapes[0], colour) for colour in (first, second)]
    return background(rng, size), scenes, claims


def claim(template, shape, colour):
    text = template.format(shape=shape, colour=colour)
    spans = spans_of(text, colour, shape)
    return {"text": text, "shape": shape, "colour": colour, "spans": spans}


def spans_of(text, *words):
    """The [start, end] characters of the first occurrence of each word, in the text's order."""
    found = (re.search(rf"\b{word}\b", text) for word in words)
    return sorted(list(match.span()) for match in found)


class ImageWriter:
    """Writes images, such as those of one split, and their objects as COCO instances.

    Parameters
    ----------
    root : folder of the data set
    split : str, part of the names of files; "" where one file has the images of all splits
    first_image : number of its first image
    title : what the data set is, for the files
    """

    def __init__(self, root, split, first_image, title):
        self.root, self.split = Path(root), split
        self.image_id = first_image
        self.info = {"description": f"mmlens generated {title}, version {VERSION}"}
        self.images, self.annotations = [], []

    def add_image(self, canvas, objects):
        """Write one image; its file name and its first object's annotation id, of which the
        others follow in order."""
        pixels, masks = draw(canvas, objects)
        name = f"{self.image_id:06d}.png"
        Image.fromarray(pixels).save(self.root / "img" / name, compress_level=1)
        size = len(canvas)
        self.images.append({"id": self.image_id, "file_name": name, "width": size, "height": size})
        first = self.image_id * 10
        for offset, (item, mask) in enumerate(zip(objects, masks, strict=True)):
            self.annotations.append(self._instance(first + offset, item, mask))
        self.image_id += 1
        return name, first

    def _instance(self, annotation_id, item, mask):
        encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        return {
            "id": annotation_id,
            "image_id": self.image_id,
            "category_id": CATEGORIES.index(f"{item.colour} {item.shape}") + 1,
            "bbox": coco_mask.toBbox(encoded).tolist(),
            "area": int(mask.sum()),
            "iscrowd": 0,
            "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode()},
        }

    def write(self):
        """Write the instances of all images."""
        categories = [
            {"id": k, "name": name, "supercategory": name.split()[1]}
            for k, name in enumerate(CATEGORIES, start=1)
        ]
        content = {"annotations": self.annotations, "categories": categories}
        name = f"instances_{self.split}" if self.split else "instances"
        write_json(
            self.root / "annotations" / f"{name}.json",
            {"info": self.info, "images": self.images, **content},
        )


class Writer(ImageWriter):
    """Collects the records of one split and writes its files in the native formats."""

    def __init__(self, root, split, first_image, first_sample):
        super().__init__(root, split, first_image, "claims")
        self.sample_id = first_sample
        self.samples, self.claims, self.captions = [], [], []
        self.questions, self.answers = [], []

    def add_image(self, canvas, objects, question):
        """Write one image with its COCO, caption and VQA records; its file name and the named
        object's annotation id."""
        image_id = self.image_id
        name, first = super().add_image(canvas, objects)
        listed = [f"a {item.colour} {item.shape}" for item in objects]
        text = f"{listed[0]} , {listed[1]} and {listed[2]}"
        self.captions.append({"id": image_id, "image_id": image_id, "caption": text})
        named = objects[0]
        self.questions.append({"question_id": first, "image_id": image_id, "question": question})
        self.answers.append(
            {
                "question_id": first,
                "image_id": image_id,
                "question_type": "what colour is the",
                "answer_type": "other",
                "multiple_choice_answer": named.colour,
                "answers": [
                    {"answer_id": k, "answer": named.colour, "answer_confidence": "yes"}
                    for k in range(1, 11)
                ],
            }
        )
        return name, first

    def add_sample(self, image, region_id, claim, label, quad_id, stratum):
        sample_id = f"{self.sample_id:05d}"
        record = {"id": sample_id, "img": f"img/{image}", "label": label, "text": claim["text"]}
        self.samples.append(record)
        self.claims.append(
            {
                "sample_id": sample_id,
                "quad_id": quad_id,
                "cluster_id": quad_id,
                "group_shape": claim["shape"],
                "group_colour": claim["colour"],
                "group_stratum": stratum,
                "named_region": region_id,
                "word_spans": json.dumps(claim["spans"]),
            }
        )
        self.sample_id += 1

    def write(self):
        lines = "".join(json.dumps(record) + "\n" for record in self.samples)
        write_text(self.root / f"{self.split}.jsonl", lines)
        super().write()
        write_json(
            self.root / "annotations" / f"captions_{self.split}.json",
            {"info": self.info, "images": self.images, "annotations": self.captions},
        )
        vqa = {
            "info": self.info,
            "license": {"name": "MIT", "url": "https://opensource.org/license/mit"},
            "data_type": "generated",
            "data_subtype": self.split,
        }
        write_json(
            self.root / "vqa" / f"v2_OpenEnded_{self.split}_questions.json",
            {**vqa, "task_type": "Open-Ended", "questions": self.questions},
        )
        write_json(
            self.root / "vqa" / f"v2_{self.split}_annotations.json",
            {**vqa, "annotations": self.answers},
        )


@register_generator("generated")
def generate(root, *, quads, seed=0, size=96, leak="none", bias=None):
    """Write the whole data set below `root`; the same arguments give the same bytes.

    Parameters
    ----------
    quads : dict
        Number of quads per split, e.g. {"train": 2500, "val": 500, "test": 500}; half of each
        are of the stratum easy, half swap. A quad never crosses splits.
    leak : {"none", "word", "colour_count"}
        Deliberate faults for testing the audit: "word" marks false claims in their text,
        "colour_count" shows the claimed colour twice if and only if the claim is true.
    bias : name of a shape, or None
        Deliberate fault for testing the fairness table: in the split train, the colour that is
        claimed of this shape tells the label. Of its quads only the two samples of one image are
        there, the true claim of one of TRUE_COLOURS and the false one of another colour. The other
        splits, and all claims of other shapes, are as without, but for the numbers of their files.
    """
    if leak not in LEAKS:
        raise ValueError(f"leak: found {leak!r}, expected one of {', '.join(LEAKS)}")
    if bias is not None and bias not in SHAPES:
        raise ValueError(f"bias: found {bias!r}, expected one of {', '.join(SHAPES)}")
    root = Path(root)
    (root / "img").mkdir(parents=True, exist_ok=True)
    claims, image_id, sample_id = [], 1, 0
    for split, count in quads.items():
        writer = Writer(root, split, image_id, sample_id)
        for index in range(count):
            # Keyed by split and index, so that another number of quads keeps the first ones.
            rng = np.random.default_rng([VERSION, seed, *split.encode(), index])
            stratum = "easy" if index % 2 == 0 else "swap"
            planted = bias if split == "train" else None
            canvas, scenes, quad_claims = make_quad(rng, size, stratum, leak, planted)
            if planted is not None and planted == quad_claims[0]["shape"]:
                scenes = scenes[:1]
            question = f"what colour is the {scenes[0][0].shape}?"
            images = [writer.add_image(canvas, scene, question) for scene in scenes]
            for i, (image, region_id) in enumerate(images):
                for j, said in enumerate(quad_claims):
                    label = int(i != j)
                    if leak == "word" and label:
                        said = {**said, "text": said["text"] + " really"}
                    quad_id = f"{split}{index:05d}"
                    writer.add_sample(image, region_id, said, label, quad_id, stratum)
        writer.write()
        claims += writer.claims
        image_id, sample_id = writer.image_id, writer.sample_id
    write_csv(root / "claims.csv", pd.DataFrame(claims))


@register_dataset("generated")
def read(settings):
    """Read the generated files as Hateful-Memes files with a table of groups."""
    splits = list(settings["quads"])
    return read_files(
        {
            **settings,
            "files": {split: f"{split}.jsonl" for split in splits},
            "groups": {"table": str(Path(settings["root"]) / "claims.csv"), "on": "sample_id"},
            "instances": {split: f"annotations/instances_{split}.json" for split in splits},
        }
    )
