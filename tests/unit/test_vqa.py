"""Questions and answers: both forms, normal form, soft scores, accuracy, vocabularies."""

import json
from collections import Counter

import pandas as pd
import pytest
from conftest import SHARED
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmlens.datasets import DATASETS
from mmlens.datasets.answers import (
    ORDERS,
    best_answer,
    frequent_answers,
    normalise_answer,
    published_vocabulary,
    read_vocabulary,
    soft_scores,
)
from mmlens.datasets.samples import build_samples, class_table
from mmlens.evaluation.vqa import soft_accuracy, vqa_accuracy
from mmlens.table import DataError, read_samples, read_table, task_of, write_csv

OPEN = SHARED / "data/coco_open"
METER = SHARED / "golden/models/meter/answer_id_to_text.json"
LXMERT = SHARED / "golden/models/lxmert/vqa_label2ans.json"
SPLITS = ("train", "val", "test")
needs_data = pytest.mark.skipif(not OPEN.is_dir(), reason=f"no {OPEN}")
needs_golden = pytest.mark.skipif(not METER.is_file(), reason=f"no {METER}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes", "yes"),
        (" on the\ttable \n", "on table"),
        ("An apple, a pear", "apple pear"),
        ("the", ""),
        ("one two TEN eleven", "1 2 10 eleven"),
        ("none", "0"),
        ("dont", "don't"),
        ("wouldnt've", "wouldn't've"),
        ("wouldn'tve", "wouldn't've"),
        ("oclock", "o'clock"),
        ("girl's", "girl's"),
        ("2:50 pm", "2:50 pm"),
        ("1.5", "1.5"),
        ("St. Louis.", "st louis"),
        ("t-shirt", "t shirt"),
        ("t-shirt, blue", "t shirt blue"),
        ("black - white", "black white"),
        ("what?!", "what"),
        ("100,978", "100978"),
        ("$1,000-2,000", "$10002000"),
        ("", ""),
    ],
)
def test_normal_form_of_answers(text, expected):
    assert normalise_answer(text) == expected


ANSWER = st.one_of(
    st.text(max_size=30),
    st.lists(
        st.sampled_from(
            [
                "a",
                "The",
                "dont",
                "wont",
                "yall'dve",
                "ten",
                "None",
                "1",
                ".",
                ",",
                "-",
                " ",
                "'",
                "x",
            ]
        ),
        max_size=12,
    ).map("".join),
)


@given(ANSWER)
def test_normal_form_is_its_own_normal_form(text):
    once = normalise_answer(text)
    assert normalise_answer(once) == once
    assert once == " ".join(once.split())


TEN = st.lists(st.sampled_from(["yes", "Yes", "no", "the dog", "dog", "2", "two"]), min_size=10,
               max_size=10)  # fmt: skip


@given(TEN, st.sampled_from(["yes", "no", "dog", "a dog", "2", "cat", ""]))
def test_accuracy_is_bounded_and_follows_from_the_soft_scores(answers, prediction):
    accuracy = vqa_accuracy(prediction, answers)
    assert 0 <= accuracy <= 1
    assert accuracy == pytest.approx(soft_accuracy(prediction, soft_scores(answers)))


@given(TEN)
def test_soft_scores_are_those_of_the_count(answers):
    scores = soft_scores(answers)
    of_count = {1: 0.3, 2: 0.6, 3: 0.9}
    expected = {a: of_count.get(n, 1.0) for a, n in Counter(answers).items()}
    assert scores == expected


@pytest.mark.parametrize(
    ("count", "accuracy"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)]
)
def test_accuracy_by_the_number_of_people_who_agree(count, accuracy):
    answers = ["Red."] * count + [f"other {k}" for k in range(10 - count)]
    assert vqa_accuracy("red", answers) == pytest.approx(accuracy)


def test_best_answer_is_the_lower_index_of_equal_scores():
    index_of = {"b": 0, "a": 1, "c": 2}
    assert best_answer({"a": 1.0, "b": 1.0, "c": 0.3}, index_of) == 0
    assert best_answer({"c": 0.6, "a": 0.3}, index_of) == 2
    assert best_answer({"z": 1.0}, index_of) == best_answer({}, index_of) == -1


def test_frequent_answers_are_ordered_by_count_and_then_alphabet():
    assert frequent_answers(["b", "c", "a", "c", "b"], 1) == ["b", "c", "a"]
    assert frequent_answers(["b", "c", "a", "c", "b"], 2) == ["b", "c"]


def test_published_orders_hold_the_same_answers_in_other_places():
    vilt, lxmert = (published_vocabulary(order) for order in ORDERS)
    assert len(vilt) == len(set(vilt)) == 3129
    assert set(vilt) == set(lxmert)
    assert vilt[:2] == ["net", "pitcher"]
    assert vilt[125] == lxmert[0] == ""
    assert sum(a == b for a, b in zip(vilt, lxmert, strict=True)) < 10
    # A prediction of the vocabulary can be right: it is in the normal form.
    assert all(normalise_answer(answer) == answer for answer in vilt)


def written(path, content):
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("order", ORDERS)
def test_vocabulary_is_read_from_every_form(tmp_path, order):
    answers = published_vocabulary(order)
    forms = [
        answers,
        {answer: index for index, answer in enumerate(answers)},
        {str(index): answer for index, answer in enumerate(answers)},
    ]
    for form in forms:
        assert read_vocabulary(written(tmp_path / "a.json", form), order) == answers


def test_missing_empty_answer_is_filled_in_and_said(tmp_path, capsys):
    answers = published_vocabulary("vilt")
    shorter = {str(k): answer for k, answer in enumerate(answers) if answer}
    assert len(shorter) == 3128
    assert read_vocabulary(written(tmp_path / "a.json", shorter), "vilt") == answers
    assert "no entry 125; it is the empty answer and was filled in" in capsys.readouterr().out


def other_order():
    return published_vocabulary("lxmert")


def swapped():
    answers = published_vocabulary("vilt")
    answers[7], answers[8] = answers[8], answers[7]
    return answers


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (other_order(), "the order is lxmert, not vilt; set dataset.vocabulary: lxmert"),
        (swapped(), "3129 answers, entry 7 is '{8}'; expected the 3129 of VQA v2"),
        (published_vocabulary("vilt")[:-1], "3128 answers, entry 3128 is None; expected the 3129"),
        ({}, "0 answers, entry 0 is None; expected the 3129 of VQA v2 in the order vilt"),
        ({"a": 0, "b": 0}, "an index occurs more than once; expected a JSON list of answers"),
        ({"zero": "a"}, "invalid literal for int()"),
        (["a", 5], "found the answer 5; expected a JSON list of answers, {answer: index}"),
        (5, "found int; expected a JSON list"),
    ],
)
def test_other_vocabularies_are_refused(tmp_path, content, found):
    path = written(tmp_path / "a.json", content)
    with pytest.raises(DataError) as caught:
        read_vocabulary(path, "vilt")
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}: ")
    answers = published_vocabulary("vilt")
    assert found.replace("{8}", answers[8]) in problem
    assert "dataset.answers" in problem


@needs_golden
def test_orders_are_those_of_the_published_models(capsys):
    assert read_vocabulary(METER, "vilt")[0] == "net"
    assert "filled in" in capsys.readouterr().out
    assert read_vocabulary(LXMERT, "lxmert")[1] == "woods"
    with pytest.raises(DataError, match="the order is lxmert, not vilt"):
        read_vocabulary(LXMERT, "vilt")
    with pytest.raises(DataError, match="expected the 3129 of VQA v2 in the order lxmert"):
        read_vocabulary(METER, "lxmert")


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


@needs_data
def test_accuracy_of_ten_answers_is_the_soft_score_of_real_answers():
    content = json.loads((OPEN / "vqa/v2_mscoco_val2014_annotations.json").read_text())
    for record in content["annotations"]:
        given = [item["answer"] for item in record["answers"]]
        scores = soft_scores(given)
        for answer in [*given, "yes", "a cat", ""]:
            assert vqa_accuracy(answer, given) == pytest.approx(soft_accuracy(answer, scores))
        best = record["multiple_choice_answer"]
        assert vqa_accuracy(best, given) == max(vqa_accuracy(answer, given) for answer in given)


# A user's table with answers.


def write_table(root, rows):
    (root / "img").mkdir(exist_ok=True)
    for number in range(len(rows)):
        Image.new("RGB", (3, 3), (number, 0, 0)).save(root / f"img/{number}.png")
    table = pd.DataFrame(rows)
    table.insert(0, "image", [f"img/{number}.png" for number in range(len(rows))])
    table.to_csv(root / "table.csv", index=False)
    return DATASETS.get("csv")({"root": str(root), "table": "table.csv"})


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
