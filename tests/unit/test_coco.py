"""COCO: labels by a stated rule, targets, groups, masks; faulty files; broken images."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import SHARED
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmlens.datasets import DATASETS
from mmlens.datasets.coco import choose_images, gender_proxy, object_size
from mmlens.datasets.images import ImageGate
from mmlens.datasets.records import split_of
from mmlens.datasets.samples import build_samples, class_table
from mmlens.datasets.truth import decode_mask, with_masks
from mmlens.table import DataError, read_samples, read_table, task_of, write_csv

OPEN = SHARED / "data/coco_open"
SPLITS = ("train", "val", "test")
CATEGORIES = [
    {"id": 90, "name": "toothbrush", "supercategory": "indoor"},
    {"id": 1, "name": "person", "supercategory": "person"},
    {"id": 13, "name": "stop sign", "supercategory": "outdoor"},
]
SQUARE = [[0, 0, 0, 10, 10, 10, 10, 0]]


def item(number, image_id, category_id, area, **more):
    """An instance; its mask is a square of 10 x 10 pixels whatever its area says."""
    fields = {"id": number, "image_id": image_id, "category_id": category_id, "area": area}
    return {**fields, "bbox": [0, 0, 10, 10], "segmentation": SQUARE, "iscrowd": 0, **more}


INSTANCES = [
    item(1, 30, 90, 500.5),
    item(2, 30, 1, 9216),
    item(3, 30, 1, 100),
    item(4, 4, 90, 1024),  # as large as the next one, whose category has the lower id
    item(5, 4, 13, 1024),
    item(6, 4, 1, 90_000, iscrowd=1, segmentation={"size": [20, 40], "counts": [0, 100, 700]}),
    item(7, 5, 1, 80_000, iscrowd=1),  # nothing but a crowd
    item(8, 7, 13, 20, segmentation=[]),
]
CAPTIONS = [
    {"id": 9, "image_id": 30, "caption": "Two women\n and  a MAN."},
    {"id": 8, "image_id": 30, "caption": "A lady waits "},
    {"id": 5, "image_id": 4, "caption": "A sign."},
    {"id": 6, "image_id": 5, "caption": "A crowd."},
    {"id": 7, "image_id": 6, "caption": "Nothing at all."},
    {"id": 1, "image_id": 30, "caption": " \n"},
    {"id": 4, "image_id": 7, "caption": "His größer 🦊"},
]


def image(number):
    return {"id": number, "file_name": f"{number:012d}.jpg", "width": 40, "height": 20}


@pytest.fixture
def root(tmp_path):
    """A small data set in COCO's layout: images 30, 4, 5 (only a crowd), 6 (nothing) and 7."""
    write(tmp_path)
    (tmp_path / "val2017").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8)
    for number in (30, 4, 5, 6, 7):
        Image.fromarray(np.roll(noise, number)).save(tmp_path / f"val2017/{number:012d}.jpg")
    return tmp_path


def write(root, captions=CAPTIONS, instances=INSTANCES, categories=CATEGORIES, images=None):
    folder = root / "annotations"
    folder.mkdir(exist_ok=True)
    images = [image(k) for k in (30, 4, 5, 6, 7)] if images is None else images
    content = {"images": images, "annotations": captions}
    (folder / "captions_val2017.json").write_text(json.dumps(content))
    content = {"images": images, "annotations": instances, "categories": categories}
    (folder / "instances_val2017.json").write_text(json.dumps(content))


def read(root, **settings):
    return DATASETS.get("coco")({"root": str(root), **settings})


def build(root, **settings):
    return build_samples(read(root, **settings), splits=SPLITS)


def problems_of(root, **settings):
    with pytest.raises(DataError) as caught:
        build(root, **settings)
    return caught.value.problems


def test_rows_labels_targets_and_groups(root):
    samples, _, quality = build(root)
    write_csv(root / "samples.csv", samples)
    again = read_samples(root / "samples.csv")
    assert task_of(again) == "classes"
    rows = again.set_index("sample_id")
    assert rows.index.tolist() == ["000000000004", "000000000007", "000000000030"]
    # Categories in the order of their ids: person 0, stop sign 1, toothbrush 2.
    assert rows["label"].tolist() == [1, 1, 0]
    assert rows["label_name"].tolist() == ["stop sign", "stop sign", "person"]
    targets = [["stop sign", "toothbrush"], ["stop sign"], ["person", "toothbrush"]]
    assert rows["targets"].map(json.loads).tolist() == targets
    assert rows["text"].tolist() == ["A sign.", "His größer 🦊", "A lady waits"]
    captions = json.loads(rows["captions"].iat[2])
    assert captions == ["A lady waits", "Two women and a MAN."]
    assert rows["group_category"].tolist() == rows["label_name"].tolist()
    assert rows["group_supercategory"].tolist() == ["outdoor", "outdoor", "person"]
    assert rows["group_object_size"].tolist() == ["medium", "small", "large"]
    assert rows["group_gender_proxy"].tolist() == ["none", "male words", "both"]
    assert (rows["split"] == "test").all()
    assert rows["image"].iat[0] == str(root / "val2017/000000000004.jpg")
    assert (rows["cluster_id"] == rows["image"]).all()
    (counts,) = quality.to_dict("records")
    assert counts["rows_read"] == counts["samples"] == 3
    assert counts["without_category"] == 2
    assert counts["label_rule"] == "largest"
    assert counts["undecodable"] == counts["wrong_size"] == 0
    assert counts["classes"] == 2
    assert "positives" not in quality


def test_truth_has_masks_or_boxes_and_a_box_is_no_mask(root):
    _, truth, _ = build(root)
    assert truth["region_id"].tolist() == ["4", "5", "6", "8", "1", "2", "3"]
    masked = with_masks(truth)
    assert masked["region_id"].tolist() == ["4", "5", "6", "1", "2", "3"]
    assert [decode_mask(row).sum() for row in masked.itertuples()] == [100] * 6
    box = truth.set_index("region_id").loc["8"]
    assert box[["x", "y", "width", "height"]].tolist() == [0, 0, 10, 10]
    assert (box["mask_height"], box["mask_width"], box["mask_counts"]) == (20, 40, "")


def test_classes_are_the_categories_in_the_order_of_their_ids(root):
    write_csv(root / "classes.csv", class_table(read(root)))
    table = read_table(root / "classes.csv")
    assert table["index"].tolist() == ["0", "1", "2"]
    assert table["name"].tolist() == ["person", "stop sign", "toothbrush"]
    assert table["category_id"].tolist() == ["1", "13", "90"]
    assert table["supercategory"].tolist() == ["person", "outdoor", "indoor"]


def test_the_rule_any_is_stated_and_changes_no_label(root):
    largest, _, _ = build(root)
    any_of_them, _, quality = build(root, label="any", split="train")
    assert quality["label_rule"].tolist() == ["any"]
    assert quality["split"].tolist() == ["train"]
    assert any_of_them["label"].tolist() == largest["label"].tolist()


def test_broken_images_are_left_out_named_and_counted(root, capsys):
    whole = (root / "val2017/000000000030.jpg").read_bytes()
    (root / "val2017/000000000030.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "val2017/000000000007.jpg").unlink()
    gate = ImageGate()
    samples, truth, quality = build_samples(read(root), splits=SPLITS, gate=gate)
    assert samples["sample_id"].tolist() == ["000000000004"]
    assert set(truth["sample_id"]) == {"000000000004"}
    (counts,) = quality.to_dict("records")
    assert (counts["rows_read"], counts["undecodable"], counts["samples"]) == (3, 2, 1)
    log = capsys.readouterr().out
    assert log.count("left out: ") == 2
    assert "000000000030.jpg cannot be decoded (" in log
    assert "000000000007.jpg is missing" in log
    problems = gate.table().set_index("image")["problem"]
    assert (problems != "").tolist() == [False, True, True]
    broken = problems_of(root, broken="error")
    assert len(broken) == 2
    assert "captions_val2017.json image 7: image " in broken[0]


def test_images_of_another_size_than_their_masks_are_left_out(root, capsys):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown upright, it is 20 wide and 40 high
    Image.new("RGB", (40, 20)).save(root / "val2017/000000000030.jpg", exif=exif)
    samples, _, quality = build(root)
    assert len(samples) == 2
    (counts,) = quality.to_dict("records")
    assert (counts["undecodable"], counts["wrong_size"]) == (0, 1)
    assert "has 20x40 pixels, its annotations are of 40x20" in capsys.readouterr().out


def test_no_image_at_all_is_an_error(root):
    for path in (root / "val2017").iterdir():
        path.unlink()
    (problem,) = problems_of(root)
    assert problem.startswith("no image can be used, the first: ")
    assert "000000000004.jpg is missing; download it or correct dataset.root" in problem


def test_no_labelled_image_is_an_error(root):
    write(root, instances=[])
    assert problems_of(root) == ["no samples; nothing of the data set is left to use"]


FAULTS = {
    "unknown category": (
        {"instances": [item(1, 30, 2, 5)]},
        "instances_val2017.json annotation 1: category_id 2 is no category's id",
    ),
    "object without image": (
        {"instances": [item(1, 31, 1, 5)]},
        "instances_val2017.json annotation 1: image_id 31 is no id of its images",
    ),
    "caption without image": (
        {"captions": [*CAPTIONS, {"id": 2, "image_id": 99, "caption": "a"}]},
        "captions_val2017.json annotation 2: image_id 99 is no id of its images",
    ),
    "duplicate object": (
        {"instances": [item(1, 30, 1, 5), item(1, 4, 1, 5)]},
        "instances_val2017.json annotations: id 1 occurs more than once; keep one record",
    ),
    "duplicate category": (
        {"categories": [*CATEGORIES, CATEGORIES[0]]},
        "instances_val2017.json categories: id 90 occurs more than once; keep one record",
    ),
    "missing key": (
        {"captions": [*CAPTIONS, {"id": 1, "image_id": 30}]},
        "captions_val2017.json annotations[7]: no key caption; expected id, image_id, caption",
    ),
    "wrong type": (
        {"captions": [{"id": "a", "image_id": True, "caption": None}]},
        'annotations[0]: id is "a", expected a whole number; image_id is true, expected a whole '
        "number; caption is null, expected a text in Unicode",
    ),
    "half a character": (
        {"captions": [{"id": 1, "image_id": 30, "caption": "\ud800"}]},
        'caption is "\\ud800", expected a text in Unicode',
    ),
    "no object": ({"captions": ["a"]}, 'annotations[0]: found "a"; expected an object with id,'),
    "no list": (
        {"categories": 5},
        "instances_val2017.json: no list categories of objects with id, name, supercategory",
    ),
    "box": (
        {"instances": [item(1, 30, 1, 5, bbox=[0, 0, "a", 1]), item(2, 30, 1, 5, bbox=[1])]},
        "instances_val2017.json annotation 2: bbox [1]; expected x, y, width, height",
    ),
    "infinite area": (
        {"instances": [item(1, 30, 1, float("inf"))]},
        "annotations[0]: area is Infinity, expected a number",
    ),
    "area": (
        {"instances": [item(1, 30, 1, "large")]},
        'annotations[0]: area is "large", expected a number',
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_named_with_file_and_record(root, name):
    content, expected = FAULTS[name]
    write(root, **content)
    found = problems_of(root)
    assert any(expected in problem for problem in found), found
    assert all(problem.startswith(str(root)) for problem in found)


def test_all_faults_are_reported_at_once(root):
    write(root, instances=[item(1, 99, 1, 5), item(1, 30, 2, 5), item(3, 30, 2, 5)])
    assert len(problems_of(root)) == 3


@pytest.mark.parametrize("name", ["../x.jpg", "/etc/x.jpg", "a/b.jpg", "", ".."])
def test_file_names_stay_in_their_folder(root, name):
    write(root, images=[{**image(30), "file_name": name}], captions=[], instances=[])
    (problem,) = problems_of(root)
    assert f"image 30: file_name {name!r}; expected no folders in it" in problem


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("{", "not JSON ("),
        ("[" * 100_000, "not JSON ("),
        ("[]", "no list images of objects with id,"),
        ("5", "no list images of objects with id,"),
    ],
)
def test_file_that_is_no_annotation_file_is_named(root, content, found):
    path = root / "annotations/captions_val2017.json"
    path.write_text(content)
    assert any(problem.startswith(f"{path}: {found}") for problem in problems_of(root))
    path.unlink()
    (problem,) = problems_of(root)
    assert problem.startswith(f"{path}: no such file; download it or correct dataset.annotations.")


def test_two_labels_are_asked_only_of_binary_data_and_models_of_nothing_else(root):
    reading = read(root)
    with pytest.raises(DataError, match="none of them learns a data set of classes, only binary"):
        build_samples(reading, tasks=("binary",))
    with pytest.raises(DataError, match="equally many of labels 0 and 1; this data set has clas"):
        build_samples(reading, sample={"test": {"per_class": 1}})
    with pytest.raises(DataError, match="split 'test'; expected one of train, val"):
        build_samples(reading, splits=("train", "val"))


IDS = st.lists(st.integers(1, 10**6), unique=True, min_size=1, max_size=60)


def chosen_of(ids, count, seed=0):
    data = {"images": {k: image(k) for k in ids}, "objects": {k: [k] for k in ids}}
    return list(choose_images(data, {"count": count, "seed": seed}))


@given(IDS, st.integers(1, 70), st.integers(0, 3))
def test_choice_depends_on_no_order_and_grows_with_the_count(ids, count, seed):
    chosen = chosen_of(ids, count, seed)
    assert chosen == sorted(chosen)
    assert len(chosen) == min(count, len(ids))
    assert chosen_of(ids[::-1], count, seed) == chosen
    assert set(chosen) <= set(chosen_of(ids, count + 5, seed))
    assert chosen_of(ids, None, seed) == sorted(ids)


@given(IDS, IDS, st.integers(1, 20))
def test_more_images_keep_the_order_of_the_others(ids, more, count):
    """Of those chosen from a larger set, the old ones would be chosen from the old set too."""
    old = set(chosen_of(ids, count))
    both = set(chosen_of(list(dict.fromkeys(ids + more)), count))
    assert both & set(ids) <= old


def test_another_seed_chooses_other_images():
    assert chosen_of(range(1, 1000), 50, 0) != chosen_of(range(1, 1000), 50, 1)


def test_sizes_are_those_of_coco():
    areas = (1, 1023.9, 1024, 9215.9, 9216)
    assert [object_size(a) for a in areas] == ["small", "small", "medium", "medium", "large"]


def test_gender_proxy_reads_whole_words():
    assert gender_proxy(["A human manages herbs"]) == "none"
    assert gender_proxy(["The man's hat", "a hat"]) == "male words"
    assert gender_proxy(["HER hat"]) == "female words"
    assert gender_proxy(["a boy", "a girl"]) == "both"
    assert gender_proxy([]) == "none"


needs_data = pytest.mark.skipif(not OPEN.is_dir(), reason=f"no {OPEN}")


@needs_data
def test_counts_of_real_data_with_boxes():
    names = {"instances": "annotations/instances_val2017_boxes.json"}
    samples, truth, quality = build(OPEN, annotations=names, count=None)
    assert quality["without_category"].tolist() == [2]
    assert len(samples) == samples["sample_id"].nunique() == 312
    assert len(truth) == 2882
    assert with_masks(truth).empty
    assert truth["sample_id"].nunique() == 312
    assert samples["captions"].map(json.loads).map(len).min() >= 5
    every = json.loads((OPEN / "annotations/captions_val2017.json").read_text())
    texts = {" ".join(a["caption"].split()) for a in every["annotations"]}
    assert {text for row in samples["captions"] for text in json.loads(row)} <= texts
    assert samples["text"].isin(texts).all()


@needs_data
def test_counts_of_real_data_with_masks():
    names = {"instances": "annotations/instances_val2017_native.json"}
    reading = read(OPEN, annotations=names, count=None)
    samples, truth, quality = build_samples(reading, splits=SPLITS)
    assert quality["without_category"].tolist() == [314 - 47]
    assert len(samples) == 47
    assert len(truth) == len(with_masks(truth)) == 469
    assert len(reading.classes) == 80
    assert reading.class_facts["category_id"][0] == 1
    assert reading.class_facts["category_id"][-1] == 90
    assert reading.classes[-1] == "toothbrush"
    # The label is the category of the largest mask.
    whole = truth[truth["region_id"] != ""]
    whole = whole.assign(area=[decode_mask(row).sum() for row in whole.itertuples()])
    largest = whole.sort_values("area").groupby("sample_id")["category"].last()
    same = samples.set_index("sample_id")["label_name"] == largest
    assert same.mean() > 0.9  # crowds have masks, and are no label
    few, _, _ = build(OPEN, annotations=names, count=10)
    assert set(few["sample_id"]) < set(samples["sample_id"])
    assert len(few) == 10


@needs_data
def test_captions_of_real_data_are_all_read():
    names = {"instances": "annotations/instances_val2017_boxes.json"}
    content = json.loads((OPEN / "annotations/captions_val2017.json").read_text())
    assert len(content["images"]) == 314
    assert len(content["annotations"]) == 1572
    samples, _, _ = build(OPEN, annotations=names, count=None)
    unlabelled = {f"{k['id']:012d}" for k in content["images"]} - set(samples["sample_id"])
    counts = pd.Series([f"{a['image_id']:012d}" for a in content["annotations"]]).value_counts()
    listed = samples["captions"].map(json.loads).map(len).sum()
    assert listed + counts[list(unlabelled)].sum() == 1572


def test_splits_are_drawn_per_image_alike_in_every_data_set():
    drawn = pd.Series({number: split_of("by_image", number) for number in range(3000)})
    shares = drawn.value_counts(normalize=True)
    assert shares.to_dict() == pytest.approx({"train": 0.6, "val": 0.2, "test": 0.2}, abs=0.03)
    assert split_of("by_image", 30) == split_of("by_image", 30)
    assert split_of("val", 30) == "val"


def test_images_of_all_splits_are_read_with_their_truth(root):
    images, instances = [image(k) for k in range(100, 120)], []
    for number in range(100, 120):
        instances.append(item(number, number, 1, 200))
        Image.new("RGB", (40, 20), (number, 0, 0)).save(root / f"val2017/{number:012d}.jpg")
    write(root, captions=[], instances=instances, images=images)
    settings = {"split": "by_image", "count": None}
    samples, truth, quality = build_samples(read(root, **settings), modalities=("image",))
    assert set(samples["split"]) == {"train", "val", "test"}
    assert quality["samples"].sum() == len(samples) == 20
    assert set(truth["sample_id"]) == set(samples["sample_id"])
    assert quality["label_rule"].eq("largest").all()
