"""COCO 2017: images with captions and objects of 80 categories; one sample per image."""

import json
import re
from pathlib import Path

import pandas as pd

from ..files import seed_from
from . import register_dataset
from .reading import COLUMNS, Reading
from .records import NUMBER, by_id, is_file_name, is_number, read_json, records_of, split_of

ANNOTATIONS = {
    "captions": "annotations/captions_val2017.json",
    "instances": "annotations/instances_val2017.json",
}
IMAGE = {"id": int, "file_name": str, "width": int, "height": int}
CAPTION = {"id": int, "image_id": int, "caption": str}
LICENCE = {"id": int, "name": str}
CATEGORY = {"id": int, "name": str, "supercategory": str}
INSTANCE = {
    "id": int,
    "image_id": int,
    "category_id": int,
    "area": NUMBER,
    "bbox": list,
    "segmentation": (list, dict),
}
# COCO's bounds of small, medium and large objects, in pixels.
SMALL, MEDIUM = 32**2, 96**2
# Words of captions, a proxy: they say what annotators wrote, not who is in the picture.
MALE_WORDS = """
man men boy boys guy guys gentleman gentlemen male males father fathers dad son sons brother
brothers husband grandfather he him his himself
"""
FEMALE_WORDS = """
woman women girl girls lady ladies female females mother mothers mom daughter daughters sister
sisters wife grandmother she her hers herself
"""


@register_dataset("coco", task="classes")
def read(settings):
    """Read captions and instances into a `Reading` of one sample per image.

    The label is the category of the object with the largest area (crowd regions do not count; of
    equal areas the lower category id), as an index into the categories in the order of their
    ids. targets lists all categories of the image. Images without an object have no label and
    are left out and counted. The text is the first caption by id, captions lists all that are not
    blank, their white space collapsed.

    Groups: category and supercategory of the label, object_size (of the label's object: small
    below 32^2 pixels, medium below 96^2, else large), gender_proxy (male words, female words,
    both or none in the captions).

    Parameters
    ----------
    settings : dict
        root: folder; annotations: {captions, instances}, and images, a folder: relative to it;
        count: how many images, a seeded choice among those with a label, null for all; seed;
        split: of all samples, or by_image; label: largest or any, the rule by which an answer shall
        count as right (any category of the image), recorded in the table of quality; broken.
    """
    root, split = Path(settings["root"]), settings.get("split", "test")
    problems = []
    data = read_annotations(settings, problems)
    if problems:
        return Reading.unreadable(problems)
    index_of = {category["id"]: k for k, category in enumerate(data["categories"])}
    images = root / image_folder(settings)
    rows = [
        {
            "sample_id": f"{image_id:012d}",
            "split": split_of(split, image_id),
            "image": str(images / image["file_name"]),
            "at": f"{data['path']} image {image_id}",
            "image_size": (image["width"], image["height"]),
            **describe(data, image_id, index_of),
        }
        for image_id, image in choose_images(data, settings).items()
    ]
    splits = sorted({row["split"] for row in rows})
    # Of the file as a whole, whatever split is looked at.
    facts = {
        "without_category": len(data["images"]) - len(labelled(data)),
        "label_rule": settings.get("label", "largest"),
    }
    names = ("name", "id", "supercategory")
    name, category_id, supercategory = ([c[key] for c in data["categories"]] for key in names)
    return Reading(
        pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(COLUMNS)),
        problems,
        instances=dict.fromkeys(splits, root / annotation_names(settings)["instances"]),
        task="classes",
        classes=name,
        class_facts={"category_id": category_id, "supercategory": supercategory},
        broken=settings.get("broken", "exclude"),
        counts=dict.fromkeys(splits, facts),
    )


def annotation_names(settings):
    """{captions, instances: path relative to root}."""
    return {**ANNOTATIONS, **(settings.get("annotations") or {})}


def image_folder(settings):
    return settings.get("images", "val2017")


def read_annotations(settings, problems):
    """The records of both files, checked.

    Returns
    -------
    dict: path of the captions, images {id: record}, captions {image id: [texts]}, categories
    (list by id), objects {image id: [instances without crowds]}, licences {id: name};
    None with problems
    """
    names = annotation_names(settings)
    paths = {key: Path(settings["root"]) / name for key, name in names.items()}
    content = {k: read_json(paths[k], f"dataset.annotations.{k}", problems) for k in names}
    if problems:
        return None

    def records(name, key, fields):
        found = records_of(content[name], key, fields, paths[name], problems)
        return by_id(found, "id", f"{paths[name]} {key}", problems)

    images = {name: records(name, "images", IMAGE) for name in names}
    has_licences = isinstance(content["captions"], dict) and "licenses" in content["captions"]
    licences = records("captions", "licenses", LICENCE) if has_licences else {}
    captions = records("captions", "annotations", CAPTION)
    categories = records("instances", "categories", CATEGORY)
    instances = records("instances", "annotations", INSTANCE)
    for name, annotations in (("captions", captions), ("instances", instances)):
        for record in annotations.values():
            at = f"{paths[name]} annotation {record['id']}"
            if record["image_id"] not in images[name]:
                problems.append(f"{at}: image_id {record['image_id']} is no id of its images")
            if record.get("category_id", None) not in {None, *categories}:
                problems.append(f"{at}: category_id {record['category_id']} is no category's id")
    for image in images["captions"].values():
        if not is_file_name(image["file_name"]):
            at = f"{paths['captions']} image {image['id']}"
            problems.append(f"{at}: file_name {image['file_name']!r}; expected no folders in it")
    for record in instances.values():
        if len(record["bbox"]) != 4 or not all(map(is_number, record["bbox"])):
            at = f"{paths['instances']} annotation {record['id']}"
            problems.append(f"{at}: bbox {record['bbox']}; expected x, y, width, height")
    texts = {image_id: [] for image_id in images["captions"]}
    for _, record in sorted(captions.items()):
        text = " ".join(record["caption"].split())
        if text:
            texts.setdefault(record["image_id"], []).append(text)
    objects = {image_id: [] for image_id in images["captions"]}
    for record in instances.values():
        if not record.get("iscrowd", 0):
            objects.setdefault(record["image_id"], []).append(record)
    return {
        "path": paths["captions"],
        "images": images["captions"],
        "captions": texts,
        "categories": [categories[key] for key in sorted(categories)],
        "objects": objects,
        "licences": {key: record["name"] for key, record in licences.items()},
    }


def labelled(data):
    """Ids of the images that have an object, and so a label."""
    return [image_id for image_id in data["images"] if data["objects"][image_id]]


def choose_images(data, settings):
    """{id: record} of the seeded choice among the images with a label, by ascending id.

    Each image has a rank of its own, so that a greater count, or more images to choose from,
    keep the order of those that were there.
    """
    seed, count = settings.get("seed", 0), settings.get("count", 1000)
    ranked = sorted(labelled(data), key=lambda image_id: seed_from("coco", seed, image_id))
    return {image_id: data["images"][image_id] for image_id in sorted(ranked[:count])}


def describe(data, image_id, index_of):
    """Label, texts and groups of one image."""
    objects, captions = data["objects"][image_id], data["captions"][image_id]
    largest = max(objects, key=lambda item: (item["area"], -item["category_id"]))
    category = data["categories"][index_of[largest["category_id"]]]
    present = sorted({index_of[item["category_id"]] for item in objects})
    return {
        "text": captions[0] if captions else "",
        "label": index_of[category["id"]],
        "label_name": category["name"],
        "captions": json.dumps(captions, ensure_ascii=False),
        "targets": json.dumps([data["categories"][k]["name"] for k in present]),
        "group_category": category["name"],
        "group_supercategory": category["supercategory"],
        "group_object_size": object_size(largest["area"]),
        "group_gender_proxy": gender_proxy(captions),
    }


def object_size(area):
    """COCO's small, medium or large, by the area of an object in pixels."""
    return "small" if area < SMALL else "medium" if area < MEDIUM else "large"


def gender_proxy(captions):
    """Which gendered words captions hold: male words, female words, both or none.

    A proxy of caption words, for comparing groups of images; no statement about the people shown.
    """
    words = set(re.findall(r"[a-z]+", " ".join(captions).lower()))
    male, female = words & set(MALE_WORDS.split()), words & set(FEMALE_WORDS.split())
    if male and female:
        return "both"
    return "male words" if male else "female words" if female else "none"
