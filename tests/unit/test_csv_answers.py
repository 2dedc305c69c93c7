"""A user's table with answers in place of labels, or with neither."""

import json

import pandas as pd
import pytest
from conftest import SHARED
from PIL import Image

from mmlens.datasets import DATASETS
from mmlens.datasets.samples import build_samples
from mmlens.table import DataError, check_labels

OPEN = SHARED / "data/coco_open"
SPLITS = ("train", "val", "test")
needs_data = pytest.mark.skipif(not OPEN.is_dir(), reason=f"no {OPEN}")


def write_table(root, rows):
    (root / "img").mkdir(exist_ok=True)
    for number in range(len(rows)):
        Image.new("RGB", (3, 3), (number, 0, 0)).save(root / f"img/{number}.png")
    table = pd.DataFrame(rows)
    table.insert(0, "image", [f"img/{number}.png" for number in range(len(rows))])
    table.to_csv(root / "table.csv", index=False)
    return DATASETS.get("csv")({"root": str(root), "table": "table.csv"})


def test_csv_without_labels_is_for_models_that_are_not_trained(tmp_path):
    rows = [{"text": "a"}, {"text": "b"}]
    reading = write_table(tmp_path, rows)
    with pytest.raises(DataError) as caught:
        build_samples(reading, splits=SPLITS)
    assert caught.value.problems[-1] == (
        f"{tmp_path / 'table.csv'}: no column label; found image, text; add it, or train no model "
        "(train: false)"
    )
    samples, _, quality = build_samples(reading, splits=SPLITS, trained=False)
    assert samples["label"].tolist() == [-1, -1]
    assert (quality["positives"] == 0).all()
    with pytest.raises(DataError, match="the samples have no labels, which evaluation"):
        check_labels(samples)
    # A label that is there is checked as ever.
    labelled = write_table(tmp_path, [{"text": "a", "label": "-1"}])
    with pytest.raises(DataError, match='label "-1" of id'):
        build_samples(labelled, splits=SPLITS, trained=False)


def test_csv_of_one_split(tmp_path):
    rows = [{"text": "a", "label": 0, "split": "train"}, {"text": "b", "label": 0, "split": "val"}]
    write_table(tmp_path, rows)
    settings = {"root": str(tmp_path), "table": "table.csv", "split": "test"}
    samples, _, _ = build_samples(DATASETS.get("csv")(settings), splits=SPLITS, trained=False)
    assert samples["split"].tolist() == ["test", "test"]


def answer_row(answers, split="train", text="what?"):
    return {"text": text, "split": split, "answers": answers}


def test_csv_with_answers(tmp_path):
    rows = [
        answer_row("red"),
        answer_row('{"blue": 1, "red": 0.3}'),
        answer_row("blue", "test"),
        answer_row('{"green": 0.9, "red": 0.6}', "test"),
        answer_row("{}", "val"),
        answer_row("green", "val"),
    ]
    reading = write_table(tmp_path, rows)
    assert reading.classes == ["red", "blue"]  # of split train, the most frequent first
    samples, _, quality = build_samples(reading, splits=SPLITS)
    assert samples["label"].tolist() == [0, 1, 1, 0, -1, -1]
    assert samples["label_name"].tolist() == ["red", "blue", "blue", "red", "", ""]
    assert json.loads(samples["answers"].iat[1]) == {"blue": 1.0, "red": 0.3}
    assert json.loads(samples["answers"].iat[0]) == {"red": 1.0}
    assert quality.set_index("split")["outside_vocabulary"].to_dict() == {
        "train": 0,
        "test": 0,
        "val": 2,
    }
    with pytest.raises(DataError, match="none of them learns a data set of answers"):
        build_samples(reading, tasks=("binary",))


@pytest.mark.parametrize(
    "cell", ["", " ", "{", '{"a": 2}', '{"a": "b"}', '{"a": true}', '{"\\ud800": 1}']
)
def test_csv_answers_that_cannot_be_read(tmp_path, cell):
    reading = write_table(tmp_path, [answer_row("red"), answer_row(cell)])
    with pytest.raises(DataError) as caught:
        build_samples(reading)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{tmp_path / 'table.csv'} line 3: answers {cell!r}; expected an")


def test_csv_answers_need_a_training_split_and_exclude_labels(tmp_path):
    reading = write_table(tmp_path, [answer_row("red", "test")])
    assert reading.problems == [
        f"{tmp_path / 'table.csv'}: no answers in split train, which make the vocabulary; add some"
    ]
    reading = write_table(tmp_path, [answer_row("red") | {"label": 1}])
    assert reading.problems == [
        f"{tmp_path / 'table.csv'}: columns label and answers; keep one of them"
    ]


@needs_data
def test_csv_of_real_questions(tmp_path):
    questions = json.loads((OPEN / "vqa/vqav2_lxmert.json").read_text())
    split_of = json.loads((OPEN / "splits.json").read_text())
    by_image = {int(key): split for split, keys in split_of.items() for key in keys}
    rows = [
        {
            "sample_id": row["question_id"],
            "image": f"val2017/{row['img_id'][-12:]}.jpg",
            "text": row["sent"],
            "split": by_image[int(row["img_id"][-12:])],
            "answers": json.dumps(row["label"]),
            "group_answer_type": row["answer_type"],
        }
        for row in questions
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "table.csv", index=False)
    settings = {"root": str(OPEN), "table": str(tmp_path / "table.csv")}
    reading = DATASETS.get("csv")(settings)
    samples, _, quality = build_samples(reading, splits=SPLITS)
    assert len(samples) == 129
    assert samples["image"].nunique() == 85
    assert samples["group_answer_type"].value_counts()["yes/no"] == 46
    in_train = samples[samples["split"] == "train"]
    assert set(in_train["label_name"]) - {""} <= set(reading.classes)
    assert (in_train["label"] == -1).sum() == (in_train["answers"] == "{}").sum()
    assert quality["outside_vocabulary"].sum() > 3  # answers that no training question has
