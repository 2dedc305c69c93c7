"""Reading real layouts: ids and texts stay what they are; joins, splits, sampling, duplicates."""

import json

import pandas as pd
import pytest
from PIL import Image

from mmlens.datasets import DATASETS
from mmlens.datasets.samples import build_samples
from mmlens.table import DataError, read_samples, write_csv


def write_images(root, count):
    (root / "img").mkdir(exist_ok=True)
    for number in range(count):
        Image.new("RGB", (20 + number, 10), (number, 0, 0)).save(root / f"img/{number}.png")


def record(number, **changes):
    """Line `number` of a jsonl file: labels alternate, the image is img/<number>.png."""
    fields = {"id": f"{number:05d}", "img": f"img/{number}.png", "label": number % 2}
    return {**fields, "text": f"text {number}", **changes}


def read_jsonl(root, records, *, groups=None, instances=None, **options):
    """build_samples of jsonl records, {split: records}, whose images it writes."""
    for split, rows in records.items():
        (root / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_images(root, 1 + max(len(rows) for rows in records.values()))
    settings = {"root": str(root), "files": {split: f"{split}.jsonl" for split in records}}
    settings["instances"] = instances
    if groups:
        settings["groups"] = {"table": str(root / "groups.csv"), "on": groups}
    return build_samples(DATASETS.get("hateful_memes")(settings), **options)


def read_csv(root, rows, **settings):
    """build_samples of a CSV table of these rows."""
    pd.DataFrame(rows).to_csv(root / "table.csv", index=False)
    return build_samples(DATASETS.get("csv")({"root": str(root), "table": "table.csv", **settings}))


def csv_rows(count, **more):
    return [
        {"image": f"img/{k}.png", "text": f"text {k}", "label": k % 2}
        | {column: value(k) for column, value in more.items()}
        for k in range(count)
    ]


def problems_of(call, *arguments, **options):
    with pytest.raises(DataError) as caught:
        call(*arguments, **options)
    return caught.value.problems


def test_ids_and_texts_stay_strings_through_the_samples_table(tmp_path):
    rows = [record(1, text="NA"), record(2, text="null"), record(3, text="1.0"), record(4, id=7)]
    samples, truth, quality = read_jsonl(tmp_path, {"train": rows, "val": [record(0)]})
    write_csv(tmp_path / "samples.csv", samples)
    again = read_samples(tmp_path / "samples.csv")
    for table in (samples, again):
        assert table["sample_id"].tolist() == ["00001", "00002", "00003", "7", "00000"]
        assert table["text"].tolist() == ["NA", "null", "1.0", "text 4", "text 0"]
        assert table["label"].tolist() == [1, 0, 1, 0, 0]
        assert table["width"].tolist() == [21, 22, 23, 24, 20]
        assert table["split"].tolist() == ["train"] * 4 + ["val"]
        assert (table["cluster_id"] == table["image"]).all()
    assert samples["image_sha256"].str.fullmatch("[0-9a-f]{64}").all()
    assert truth.empty
    assert quality.set_index("split")["samples"].to_dict() == {"train": 4, "val": 1}


def test_text_of_any_language_is_kept(tmp_path):
    text = 'größer 🦊 "quoted", a comma\nand a line'
    samples, _, _ = read_jsonl(tmp_path, {"test": [record(0, text=text)]})
    write_csv(tmp_path / "samples.csv", samples)
    assert read_samples(tmp_path / "samples.csv")["text"].tolist() == [text]


def test_csv_needs_only_image_text_and_label(tmp_path):
    write_images(tmp_path, 3)
    samples, _, _ = read_csv(tmp_path, csv_rows(3))
    assert samples["sample_id"].tolist() == ["row1", "row2", "row3"]
    assert samples["label"].tolist() == [0, 1, 0]


def test_csv_uses_own_ids_splits_and_groups(tmp_path):
    write_images(tmp_path, 3)
    rows = csv_rows(
        3,
        sample_id=lambda k: f"00{k}",
        split=lambda k: ("test", "train", "val")[k],
        group_source=lambda k: "NA",
        quad_id=lambda k: "q",
        note=lambda k: "not kept",
    )
    samples, _, _ = read_csv(tmp_path, rows)
    assert samples["sample_id"].tolist() == ["000", "001", "002"]
    assert samples["split"].tolist() == ["test", "train", "val"]
    assert samples["group_source"].tolist() == ["NA"] * 3
    assert samples["quad_id"].tolist() == ["q"] * 3
    assert "note" not in samples


def test_csv_split_by_image_never_crosses_and_ignores_the_order(tmp_path):
    write_images(tmp_path, 300)
    # Two texts per image, which must land in one split.
    rows = csv_rows(300, sample_id=str) + csv_rows(
        300, sample_id=lambda k: f"b{k}", text=lambda k: f"other {k}"
    )
    samples, _, _ = read_csv(tmp_path, rows, seed=0)
    shares = samples["split"].value_counts(normalize=True)
    assert (samples.groupby("image")["split"].nunique() == 1).all()
    assert abs(shares["train"] - 0.7) < 0.08
    assert abs(shares["val"] - 0.1) < 0.06
    assert abs(shares["test"] - 0.2) < 0.08
    split = samples.set_index("sample_id")["split"].sort_index()
    backwards, _, _ = read_csv(tmp_path, rows[::-1], seed=0)
    assert backwards.set_index("sample_id")["split"].sort_index().equals(split)
    other, _, _ = read_csv(tmp_path, rows, seed=1)
    assert not other.set_index("sample_id")["split"].sort_index().equals(split)


@pytest.mark.parametrize("names", ["img/{}.png", "{}.png"])
def test_groups_join_on_the_image_by_path_or_file_name(tmp_path, names):
    groups = {"image": [names.format(k) for k in (2, 1, 0)], "group_kind": ["c", "b", "a"]}
    pd.DataFrame(groups).to_csv(tmp_path / "groups.csv", index=False)
    rows = [record(0), record(1), record(2), record(0, id="9", text="again")]
    samples, _, _ = read_jsonl(tmp_path, {"train": rows}, groups="image")
    assert samples["group_kind"].tolist() == ["a", "b", "c", "a"]


def test_groups_join_on_the_sample_id_and_bring_quads_and_clusters(tmp_path):
    table = pd.DataFrame(
        {
            "sample_id": ["00001", "00000"],
            "group_kind": ["one", "zero"],
            "quad_id": ["q1", "q0"],
            "cluster_id": ["c1", "c0"],
            "note": ["not", "joined"],
        }
    )
    table.to_csv(tmp_path / "groups.csv", index=False)
    samples, _, _ = read_jsonl(tmp_path, {"train": [record(0), record(1)]}, groups="sample_id")
    assert samples["group_kind"].tolist() == ["zero", "one"]
    assert samples["quad_id"].tolist() == ["q0", "q1"]
    assert samples["cluster_id"].tolist() == ["c0", "c1"]
    assert "note" not in samples


def test_intervals_resample_quads_where_there_are_some(tmp_path):
    write_images(tmp_path, 8)
    rows = csv_rows(8)
    for number, row in enumerate(rows):
        row["quad_id"] = "q" if number < 4 else ""
    samples, _, _ = read_csv(tmp_path, rows)
    expected = samples["image"].where(samples["quad_id"] == "", "q")
    assert samples["cluster_id"].tolist() == expected.tolist()
    for number, row in enumerate(rows):
        row["cluster_id"] = "given" if number == 7 else ""
    samples, _, _ = read_csv(tmp_path, rows)
    assert samples["cluster_id"].tolist() == [*expected[:7], "given"]


def test_faults_of_the_group_table_are_problems(tmp_path):
    rows = {"train": [record(0), record(1)]}
    (tmp_path / "groups.csv").write_text("sample_id,group_a\n00000,x\n00000,y\n")
    twice, missing = problems_of(read_jsonl, tmp_path, rows, groups="sample_id")
    assert "groups.csv: sample_id '00000' occurs more than once; keep one row" in twice
    assert "train.jsonl line 2: sample_id '00001' has no row in" in missing
    assert "groups.csv; add it" in missing
    (tmp_path / "groups.csv").write_text("id,group_a\n00000,x\n")
    (problem,) = problems_of(read_jsonl, tmp_path, rows, groups="sample_id")
    assert "groups.csv: needs a column sample_id" in problem
    assert "found id, group_a" in problem
    (tmp_path / "groups.csv").unlink()
    (problem,) = problems_of(read_jsonl, tmp_path, rows, groups="image")
    assert problem.endswith("groups.csv: no such file (dataset.groups.table)")


def ids_of(records, folder, **options):
    folder.mkdir()
    samples, _, _ = read_jsonl(folder, {"train": records}, **options)
    return samples["sample_id"].tolist()


def test_balanced_sampling_is_seeded_and_ignores_the_order_of_the_file(tmp_path):
    rows = [record(k) for k in range(40)]
    sample = {"train": {"per_class": 7}}
    first = ids_of(rows, tmp_path / "a", sample=sample)
    labels = [int(name) % 2 for name in first]
    assert labels.count(0) == labels.count(1) == 7
    assert first == sorted(first)  # in the order of the file
    assert ids_of(rows, tmp_path / "b", sample=sample) == first
    assert sorted(ids_of(rows[::-1], tmp_path / "c", sample=sample)) == first
    assert ids_of(rows, tmp_path / "d", sample=sample, seed=1) != first
    # More samples keep the ones that were there.
    assert set(first) < set(ids_of(rows, tmp_path / "e", sample={"train": {"per_class": 9}}))


def test_sampling_takes_whole_quads(tmp_path):
    rows = [record(k, img=f"img/{k // 2}.png") for k in range(40)]
    ids = [row["id"] for row in rows]
    table = pd.DataFrame({"sample_id": ids, "quad_id": [f"q{k // 4}" for k in range(40)]})
    table.to_csv(tmp_path / "groups.csv", index=False)
    options = {"groups": "sample_id", "sample": {"train": {"per_class": 6}}}
    samples, _, quality = read_jsonl(tmp_path, {"train": rows}, **options)
    assert (samples.groupby("quad_id").size() == 4).all()
    assert quality[["samples", "positives"]].to_numpy().tolist() == [[12, 6]]
    for wanted in (5, 22):
        options["sample"] = {"train": {"per_class": wanted}}
        (problem,) = problems_of(read_jsonl, tmp_path, {"train": rows}, **options)
        assert f"sample.train.per_class: {wanted} asked" in problem
        assert "ask for an even number up to 20" in problem


def test_asking_for_too_much_is_an_error(tmp_path):
    rows = {"train": [record(k) for k in range(9)]}
    sample = {"train": {"per_class": 5}, "test": {"per_class": 1}}
    few, split = problems_of(read_jsonl, tmp_path, rows, sample=sample)
    assert few == "sample.train.per_class: 5 asked, label 1 has 4; ask for at most that"
    assert split == "sample.test: the data set has no such split; found train"


def test_sampling_notices_an_absent_label(tmp_path):
    rows = {"train": [record(k, label=0) for k in range(9)]}
    (problem,) = problems_of(read_jsonl, tmp_path, rows, sample={"train": {"per_class": 5}})
    assert "label 1 has 0" in problem


def test_exact_duplicates_are_dropped_and_contradictions_counted(tmp_path):
    rows = [
        record(0),
        record(0, id="again"),
        record(0, id="thrice"),
        record(0, id="other text", text="b"),
        record(0, id="contradicts", label=1),
        record(1),
    ]
    samples, _, quality = read_jsonl(tmp_path, {"train": rows, "test": [record(0, id="t")]})
    kept = ["00000", "other text", "contradicts", "00001", "t"]
    assert samples["sample_id"].tolist() == kept
    expected = {
        "train": {"rows_read": 6, "duplicates_dropped": 2, "contradicting_pairs": 1}
        | {"in_other_splits": 3, "samples": 4, "positives": 2},
        "test": {"rows_read": 1, "duplicates_dropped": 0, "contradicting_pairs": 0}
        | {"in_other_splits": 1, "samples": 1, "positives": 0},
    }
    found = {"shared_ids_dropped": 0, "label_version": "unknown"}
    expected = {split: counts | found for split, counts in expected.items()}
    assert quality.set_index("split").to_dict("index") == expected


OBJECT = {"id": 7, "image_id": 1, "category_id": 2, "bbox": [0, 0, 9, 9]}
COCO = {
    "images": [{"id": 1, "file_name": "img/0.png", "height": 10, "width": 20}],
    "annotations": [{**OBJECT, "segmentation": [[0, 0, 9, 0, 9, 9]]}],
    "categories": [{"id": 2, "name": "cat"}],
}


def read_coco(root, content):
    """The truth table of one sample whose image is img/0.png, with this COCO file."""
    (root / "coco.json").write_text(content if isinstance(content, str) else json.dumps(content))
    _, truth, _ = read_jsonl(root, {"train": [record(0)]}, instances={"train": "coco.json"})
    return truth


@pytest.mark.parametrize(("name", "count"), [("0.png", 1), ("img/0.png", 1), ("other/0.png", 0)])
def test_objects_are_found_by_the_end_of_the_image_path(tmp_path, name, count):
    truth = read_coco(tmp_path, {**COCO, "images": [{**COCO["images"][0], "file_name": name}]})
    assert truth["category"].tolist() == ["cat"] * count


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("{", "not a COCO instances file (JSONDecodeError"),
        ("[" * 100_000, "not a COCO instances file (RecursionError"),
        ("[]", "not a COCO instances file (TypeError"),
        ({**COCO, "categories": []}, "not a COCO instances file (KeyError: 2)"),
        ({**COCO, "annotations": [OBJECT]}, "not a COCO instances file (KeyError: 'segmentation')"),
        ({**COCO, "annotations": [{**OBJECT, "segmentation": None}]}, "segmentation of annotation"),
        ({**COCO, "images": [*COCO["images"], {**COCO["images"][0], "id": 3}]}, "2 images match"),
    ],
)
def test_faulty_instances_are_one_problem_that_names_the_file(tmp_path, content, found):
    (problem,) = problems_of(read_coco, tmp_path, content)
    assert problem.startswith(f"{tmp_path / 'coco.json'}: {found}")
