"""VQA v2: both forms of questions, vocabularies, faulty files, real questions."""

import json

import pytest
from conftest import SHARED
from PIL import Image

from mmlens.datasets import DATASETS
from mmlens.datasets.answers import published_vocabulary
from mmlens.datasets.samples import build_samples, class_table
from mmlens.table import DataError, read_samples, read_table, task_of, write_csv

OPEN = SHARED / "data/coco_open"
SPLITS = ("train", "val", "test")
needs_data = pytest.mark.skipif(not OPEN.is_dir(), reason=f"no {OPEN}")

QUESTIONS = [
    {"question_id": 262148000, "image_id": 262148, "question": "Where is he looking?"},
    {"question_id": 9001, "image_id": 9, "question": "How many?"},
]
GIVEN = {262148000: ["down"] * 6 + ["At table", "table", "skateboard", "down"], 9001: ["zzz"] * 10}


def annotation(question, **changes):
    fields = {
        "question_id": question["question_id"],
        "image_id": question["image_id"],
        "question_type": "none of the above",
        "answer_type": "other",
        "multiple_choice_answer": "down",
        "answers": [
            {"answer_id": k, "answer": text, "answer_confidence": "yes"}
            for k, text in enumerate(GIVEN[question["question_id"]], start=1)
        ],
    }
    return {**fields, **changes}


ANNOTATIONS = [annotation(question) for question in QUESTIONS]
ROW = {
    "question_id": 9001,
    "img_id": "COCO_val2014_000000000009",
    "sent": "How many?",
    "label": {"2": 1, "3": 0.3, "zzz": 1},
    "question_type": "how many",
    "answer_type": "number",
}


def written(path, content):
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def root(tmp_path):
    (tmp_path / "val2014").mkdir()
    for question in QUESTIONS:
        path = tmp_path / f"val2014/COCO_val2014_{question['image_id']:012d}.jpg"
        Image.new("RGB", (9, 9)).save(path)
    write(tmp_path)
    return tmp_path


def write(root, questions=QUESTIONS, annotations=ANNOTATIONS, lxmert=(ROW,)):
    questions = {"questions": questions, "task_type": "Open-Ended"}
    written(root / "v2_OpenEnded_mscoco_val2014_questions.json", questions)
    written(root / "v2_mscoco_val2014_annotations.json", {"annotations": annotations})
    written(root / "minival.json", lxmert)


def read(root, **settings):
    return DATASETS.get("vqa")({"root": str(root), **settings})


def problems_of(root, **settings):
    with pytest.raises(DataError) as caught:
        build_samples(read(root, **settings), splits=SPLITS)
    return caught.value.problems


def test_official_form(root):
    reading = read(root)
    samples, truth, quality = build_samples(reading, splits=SPLITS)
    write_csv(root / "samples.csv", samples)
    rows = read_samples(root / "samples.csv")
    assert task_of(rows) == "answers"
    assert rows["sample_id"].tolist() == ["9001", "262148000"]
    assert rows["text"].tolist() == ["How many?", "Where is he looking?"]
    assert rows["label"].tolist() == [-1, published_vocabulary("vilt").index("down")]
    assert rows["label_name"].tolist() == ["", "down"]
    scores = {"down": 1.0, "At table": 0.3, "table": 0.3, "skateboard": 0.3}
    assert rows["answers"].map(json.loads).tolist() == [{"zzz": 1.0}, scores]
    assert rows["group_question_type"].tolist() == ["none of the above"] * 2
    assert rows["group_answer_type"].tolist() == ["other"] * 2
    assert rows["image"].iat[0].endswith("/val2014/COCO_val2014_000000000009.jpg")
    assert (rows["cluster_id"] == rows["image"]).all()
    assert truth.empty
    (counts,) = quality.to_dict("records")
    assert (counts["samples"], counts["outside_vocabulary"]) == (2, 1)
    write_csv(root / "classes.csv", class_table(reading))
    assert read_table(root / "classes.csv")["name"].tolist() == published_vocabulary("vilt")


def test_lxmert_form_and_its_order(root):
    samples, _, _ = build_samples(read(root, lxmert="minival.json", vocabulary="lxmert"))
    (row,) = samples.to_dict("records")
    assert row["label"] == published_vocabulary("lxmert").index("2")
    assert json.loads(row["answers"]) == {"2": 1.0, "3": 0.3, "zzz": 1.0}
    assert row["group_answer_type"] == "number"


def test_images_in_the_layout_of_2017(root):
    (root / "val2017").mkdir()
    Image.new("RGB", (5, 5)).save(root / "val2017/000000000009.jpg")
    names = {"images": "val2017", "image_name": "{id:012d}.jpg"}
    samples, _, quality = build_samples(read(root, **names))
    assert samples["width"].tolist() == [5]
    assert quality["undecodable"].tolist() == [1]
    for name in ("same.jpg", "{id}/x.jpg", "../{id}.jpg", "{number}.jpg", "{", "{id:s}"):
        (problem,) = problems_of(root, image_name=name)
        assert problem.startswith(f"dataset.image_name: found {name!r}, expected a file name")


def test_two_people_who_say_the_same_about_one_image_are_kept_apart(root):
    again = {**QUESTIONS[1], "question_id": 9002}
    other = annotation(QUESTIONS[1], question_id=9002)
    other["answers"] = [{"answer": "yyy"}] * 10
    write(root, [*QUESTIONS, again], [*ANNOTATIONS, other])
    samples, _, quality = build_samples(read(root))
    assert samples["sample_id"].tolist() == ["9001", "9002", "262148000"]
    assert quality["duplicates_dropped"].tolist() == [0]


def test_vocabulary_of_the_training_split(root):
    said = ["Two"] * 9 + ["2"] + ["the dog"] * 9 + ["rare"] * 8
    content = [{"multiple_choice_answer": answer} for answer in said]
    written(root / "train.json", {"annotations": content})
    settings = {"vocabulary": "train", "train_annotations": "train.json"}
    reading = read(root, lxmert="minival.json", **settings)
    assert reading.classes == ["2", "dog"]
    assert reading.samples["label"].tolist() == [0]
    written(root / "train.json", {"annotations": content[:5]})
    (problem,) = problems_of(root, **settings)
    assert problem.endswith("train.json: no answer occurs 9 times; expected many")


def test_vocabulary_file_of_the_settings(root):
    written(root / "answers.json", published_vocabulary("lxmert"))
    assert read(root, vocabulary="lxmert", answers="answers.json").classes[0] == ""
    (problem,) = problems_of(root, answers="answers.json")
    assert "the order is lxmert, not vilt" in problem


FAULTS = {
    "no annotation": (
        {"annotations": ANNOTATIONS[:1]},
        "questions.json question 9001: has no annotation in ",
    ),
    "no question": (
        {"questions": QUESTIONS[:1]},
        "annotations.json question_id 9001: no such question in ",
    ),
    "other image": (
        {"annotations": [ANNOTATIONS[0], annotation(QUESTIONS[1], image_id=8)]},
        "question 9001: image_id 9, its annotation has 8; take both files of one split",
    ),
    "nine answers": (
        {"annotations": [ANNOTATIONS[0], annotation(QUESTIONS[1], answers=[{"answer": "a"}] * 9)]},
        "expected 10 objects with the key answer",
    ),
    "answer of wrong type": (
        {"annotations": [ANNOTATIONS[0], annotation(QUESTIONS[1], answers=[{"answer": 2}] * 10)]},
        'question_id 9001: answers [{"answer": 2}, ',
    ),
    "half a character": (
        {
            "annotations": [
                ANNOTATIONS[0],
                annotation(QUESTIONS[1], answers=[{"answer": "\ud800"}] * 10),
            ]
        },
        "question_id 9001: answers [",
    ),
    "duplicate question": (
        {"questions": [*QUESTIONS, QUESTIONS[0]]},
        "question_id 262148000 occurs more than once; keep one record",
    ),
    "missing key": (
        {"questions": [*QUESTIONS, {"question_id": 1, "image_id": 1}]},
        "questions[2]: no key question; expected question_id, image_id, question",
    ),
    "wrong type": (
        {"questions": [{**QUESTIONS[0], "question": 5}, QUESTIONS[1]]},
        "questions[0]: question is 5, expected a text in Unicode",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_of_official_files_is_named(root, name):
    content, expected = FAULTS[name]
    write(root, **content)
    found = problems_of(root)
    assert any(expected in problem for problem in found), found
    assert all(problem.startswith(str(root)) for problem in found)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([{**ROW, "label": {"2": 1.5}}], 'question 9001: scores {"2": 1.5}; expected more than 0'),
        ([{**ROW, "label": {"2": "1"}}], 'question 9001: scores {"2": "1"}; expected more than 0'),
        ([{**ROW, "label": {"2": True}}], "question 9001: scores"),
        ([{**ROW, "label": ["2"]}], '[0]: label is ["2"], expected an object'),
        ([{**ROW, "img_id": "a"}], "question 9001: img_id 'a'; expected a name with a number"),
        ([ROW, ROW], "question_id 9001 occurs more than once"),
        ([{"sent": "a"}], "[0]: no key question_id, img_id, label, question_type, answer_type"),
        ({"a": 1}, "no list of objects with question_id, img_id"),
        ([5], "[0]: found 5; expected an object"),
    ],
)
def test_fault_of_the_lxmert_form_is_named(root, content, expected):
    write(root, lxmert=content)
    (problem,) = problems_of(root, lxmert="minival.json")
    assert problem.startswith(str(root / "minival.json"))
    assert expected in problem


def test_missing_and_broken_files_are_named_with_their_settings(root):
    (root / "v2_mscoco_val2014_annotations.json").write_text("{")
    (root / "v2_OpenEnded_mscoco_val2014_questions.json").unlink()
    missing, broken = problems_of(root)
    assert "questions.json: no such file; download it or correct dataset.questions" in missing
    assert "annotations.json: not JSON (" in broken
    assert "see dataset.annotations" in broken


def test_choice_of_questions_is_seeded_and_grows(root):
    questions = [{**QUESTIONS[1], "question_id": k, "question": f"{k}?"} for k in range(50)]
    annotations = [annotation(QUESTIONS[1], question_id=k) for k in range(50)]
    write(root, questions, annotations)
    chosen = [set(read(root, count=n).samples["sample_id"]) for n in (5, 9)]
    assert chosen[0] < chosen[1]
    assert (len(chosen[0]), len(chosen[1])) == (5, 9)
    assert set(read(root, count=5, seed=1).samples["sample_id"]) != chosen[0]
    assert len(read(root, count=None).samples) == 50


OPEN_IMAGES = {"images": "val2017", "image_name": "{id:012d}.jpg", "count": None}


@needs_data
def test_counts_of_real_data_in_the_lxmert_form():
    reading = read(OPEN, lxmert="vqa/vqav2_lxmert.json", **OPEN_IMAGES)
    samples, _, quality = build_samples(reading, splits=SPLITS)
    assert len(samples) == 129
    assert samples["image"].nunique() == 85
    types = samples["group_answer_type"].value_counts().to_dict()
    assert types == {"other": 76, "yes/no": 46, "number": 7}
    assert (samples["answers"] == "{}").sum() == (samples["label"] == -1).sum() == 3
    assert quality["outside_vocabulary"].tolist() == [3]


@needs_data
def test_soft_scores_of_ten_answers_are_the_published_labels():
    names = {
        "questions": "vqa/v2_OpenEnded_mscoco_val2014_questions.json",
        "annotations": "vqa/v2_mscoco_val2014_annotations.json",
    }
    samples, _, _ = build_samples(read(OPEN, **names, **OPEN_IMAGES), splits=SPLITS)
    assert len(samples) == 76
    published = json.loads((OPEN / "vqa/vqav2_lxmert.json").read_text())
    labels = {str(row["question_id"]): row["label"] for row in published}
    known = set(published_vocabulary("vilt"))
    for row in samples.itertuples():
        own = {a: s for a, s in json.loads(row.answers).items() if a in known}
        assert own == labels[row.sample_id]
