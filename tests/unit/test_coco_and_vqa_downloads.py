"""COCO and VQA v2 from a server on this machine: only what a run uses, and only once."""

from pathlib import Path

import pytest
from coco_host import host, image_record, sources_of, write_coco

from mmlens.datasets import DATASETS, DOWNLOADS
from mmlens.datasets.samples import build_samples
from mmlens.download import DownloadError
from mmlens.table import DataError

__all__ = ["host"]


def fetch(kind, host, root, **more):
    """The records of a download, and the table of what was downloaded."""
    settings = {"kind": kind, "root": str(root), "sources": sources_of(kind, host), "count": 3}
    settings |= more
    records = DOWNLOADS.get(kind)(settings)
    samples, truth, _ = build_samples(DATASETS.get(kind)(settings))
    return records, samples, truth


def test_coco_downloads_the_images_of_the_choice_and_nothing_twice(host, tmp_path):
    records, samples, truth = fetch("coco", host, tmp_path / "data")
    assert len(samples) == len(truth) == 3
    images = [f"/images/val2017/{name}.jpg" for name in samples["sample_id"]]
    assert sorted(host.asked) == sorted(["/annotations/coco.zip", *images])
    assert [Path(record["path"]).name for record in records[1:]] == [
        Path(image).name for image in images
    ]
    for record, image in zip(records[1:], images, strict=True):
        assert record["url"] == host.url + image
        assert record["sha256"] == samples.set_index("image").loc[record["path"], "image_sha256"]
        number = int(Path(image).stem)
        assert record["licence"] == ("Other" if number % 2 else "Attribution")
    assert records[0]["licence"] == "CC BY 4.0"
    unpacked = sorted(path.name for path in (tmp_path / "data/annotations").glob("*.json"))
    assert unpacked == ["captions_val2017.json", "instances_val2017.json"]

    host.asked.clear()
    again, _, _ = fetch("coco", host, tmp_path / "data")
    assert again == records
    assert host.asked == []
    more, samples, _ = fetch("coco", host, tmp_path / "data", count=5)
    assert len(host.asked) == 2
    assert len(samples) == 5
    assert {record["path"] for record in records} < {record["path"] for record in more}


def test_missing_images_of_coco_are_all_named(host, tmp_path):
    gone = ["000000000003.jpg", "000000000005.jpg"]
    for name in gone:
        (host.folder / "images/val2017" / name).unlink()
    with pytest.raises(DownloadError) as caught:
        fetch("coco", host, tmp_path / "data", count=None)
    assert len(caught.value.problems) == 2
    for name, problem in zip(gone, caught.value.problems, strict=True):
        assert problem.startswith(f"{host.url}/images/val2017/{name}: ")


def test_annotations_that_lead_out_of_their_folder_download_nothing(host, tmp_path):
    write_coco(host.folder, images=[{**image_record(1), "file_name": "../../out.jpg"}])
    with pytest.raises(DataError, match="expected no folders in it"):
        fetch("coco", host, tmp_path / "data")
    assert host.asked == ["/annotations/coco.zip"]


def test_archive_without_the_files_of_the_settings_is_refused(host, tmp_path):
    names = {"captions": "annotations/captions_val2014.json"}
    with pytest.raises(DownloadError, match=r"no member annotations/captions_val2014\.json"):
        fetch("coco", host, tmp_path / "data", annotations=names)


def test_vqa_downloads_the_images_of_the_chosen_questions(host, tmp_path):
    records, samples, _ = fetch("vqa", host, tmp_path / "data")
    assert samples["label_name"].tolist() == ["yes"] * 3
    images = [f"/images/val2014/{Path(path).name}" for path in samples["image"]]
    archives = ["/vqa/annotations.zip", "/vqa/questions.zip"]
    assert sorted(host.asked) == sorted([*images, *archives])
    assert len(records) == 5
    assert records[0]["licence"] == "CC BY 4.0"
    host.asked.clear()
    assert fetch("vqa", host, tmp_path / "data")[0] == records
    assert host.asked == []


def test_vqa_in_the_lxmert_form_with_a_vocabulary_of_its_own(host, tmp_path):
    more = {"vocabulary": "train", "train_annotations": "train.json", "lxmert": "minival.json"}
    _, samples, _ = fetch("vqa", host, tmp_path / "data", **more)
    assert samples["label"].tolist() == [0] * 3
    assert "/vqa/questions.zip" not in host.asked
    assert {"/vqa/minival.json", "/vqa/train.zip"} < set(host.asked)


def test_vqa_in_the_image_layout_of_2017(host, tmp_path):
    more = {"images": "val2017", "image_name": "{id:012d}.jpg"}
    _, samples, _ = fetch("vqa", host, tmp_path / "data", **more)
    assert (samples["width"] == 12).all()
