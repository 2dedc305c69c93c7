"""Answers: normal form, soft scores, accuracy, the published vocabularies."""

import json
from collections import Counter

import pytest
from conftest import SHARED
from hypothesis import given
from hypothesis import strategies as st

from mmlens.datasets.answers import (
    ORDERS,
    best_answer,
    frequent_answers,
    normalise_answer,
    published_vocabulary,
    read_vocabulary,
    soft_scores,
)
from mmlens.evaluation.vqa import soft_accuracy, vqa_accuracy
from mmlens.table import DataError

OPEN = SHARED / "data/coco_open"
METER = SHARED / "golden/models/meter/answer_id_to_text.json"
LXMERT = SHARED / "golden/models/lxmert/vqa_label2ans.json"
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
