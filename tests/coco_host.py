"""A small COCO and VQA v2 on a server on this machine, for the tests of downloads."""

import json
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

NUMBERS = range(1, 9)
ADDRESSES = {
    "coco": {"annotations": "annotations/coco.zip", "images": "images"},
    "vqa": {
        "questions": "vqa/questions.zip",
        "annotations": "vqa/annotations.zip",
        "train_annotations": "vqa/train.zip",
        "lxmert": "vqa/minival.json",
        "images": "images",
    },
}


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_arguments):
        self.server.asked.append(self.path)


@pytest.fixture
def host(tmp_path):
    """A server of a small COCO and VQA v2; its attributes: url, folder, asked (paths so far)."""
    folder = tmp_path / "host"
    write_coco(folder)
    write_vqa(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    server.url, server.folder, server.asked = f"http://127.0.0.1:{server.server_port}", folder, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def pack(path, **members):
    """A zip archive of JSON files: {name of the member: content}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, json.dumps(content))


def image_record(number):
    name = f"{number:012d}.jpg"
    size = {"width": 12, "height": 9}
    return {"id": number, "file_name": name, "license": 1 + number % 2, **size}


def write_coco(folder, images=None):
    """The official layout; image 8 has no object."""
    images = [image_record(number) for number in NUMBERS] if images is None else images
    licences = [{"id": 1, "name": "Attribution", "url": "x"}, {"id": 2, "name": "Other"}]
    captions = [{"id": k, "image_id": k, "caption": f"picture {k}"} for k in NUMBERS]
    objects = [
        {
            "id": k,
            "image_id": k,
            "category_id": 1,
            "area": 9,
            "bbox": [0, 0, 3, 3],
            "segmentation": [[0, 0, 0, 3, 3, 3, 3, 0]],
            "iscrowd": 0,
        }
        for k in NUMBERS[:-1]
    ]
    known = {image["id"] for image in images}
    captions, objects = (
        [record for record in records if record["image_id"] in known]
        for records in (captions, objects)
    )
    categories = [{"id": 1, "name": "person", "supercategory": "person"}]
    pack(
        folder / ADDRESSES["coco"]["annotations"],
        **{
            "annotations/captions_val2017.json": {
                "images": images,
                "annotations": captions,
                "licenses": licences,
            },
            "annotations/instances_val2017.json": {
                "images": images,
                "annotations": objects,
                "categories": categories,
            },
            "annotations/captions_train2017.json": {"not": "wanted"},
        },
    )
    (folder / "images/val2017").mkdir(parents=True, exist_ok=True)
    for number in NUMBERS:
        picture = Image.new("RGB", (12, 9), (20 * number, 0, 0))
        picture.save(folder / f"images/val2017/{number:012d}.jpg")


def write_vqa(folder):
    questions = [{"question_id": k * 10, "image_id": k, "question": f"{k}?"} for k in NUMBERS]
    annotations = [
        {
            "question_id": k * 10,
            "image_id": k,
            "question_type": "what",
            "answer_type": "other",
            "multiple_choice_answer": "yes",
            "answers": [{"answer": "yes", "answer_id": n} for n in range(10)],
        }
        for k in NUMBERS
    ]
    places = ADDRESSES["vqa"]
    pack(
        folder / places["questions"],
        **{"v2_OpenEnded_mscoco_val2014_questions.json": {"questions": questions}},
    )
    pack(
        folder / places["annotations"],
        **{"v2_mscoco_val2014_annotations.json": {"annotations": annotations}},
    )
    train = [{"multiple_choice_answer": "Yes."}] * 9
    pack(folder / places["train_annotations"], **{"train.json": {"annotations": train}})
    row = {"question_type": "what", "answer_type": "other", "label": {"yes": 1}, "sent": "a?"}
    rows = [{**row, "question_id": k, "img_id": f"COCO_val2014_{k:012d}"} for k in NUMBERS]
    (folder / places["lxmert"]).write_text(json.dumps(rows))
    (folder / "images/val2014").mkdir(parents=True, exist_ok=True)
    for number in NUMBERS:
        Image.new("RGB", (9, 9)).save(folder / f"images/val2014/COCO_val2014_{number:012d}.jpg")


def sources_of(kind, host):
    """Section dataset.sources with the addresses of this server."""
    return {name: f"{host.url}/{place}" for name, place in ADDRESSES[kind].items()}
