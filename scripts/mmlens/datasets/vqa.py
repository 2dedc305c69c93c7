"""VQA v2: questions about COCO images, in the official form or that of LXMERT."""

import json
import re
from pathlib import Path

import pandas as pd

from ..files import seed_from
from ..table import DataError
from . import register_dataset
from .answers import (
    MIN_OCCURRENCES,
    best_answer,
    frequent_answers,
    is_score,
    normalise_answer,
    published_vocabulary,
    read_vocabulary,
    soft_scores,
)
from .reading import COLUMNS, Reading
from .records import by_id, is_encodable, is_file_name, read_json, records_of, split_of

QUESTIONS = "v2_OpenEnded_mscoco_val2014_questions.json"
ANNOTATIONS = "v2_mscoco_val2014_annotations.json"
QUESTION = {"question_id": int, "image_id": int, "question": str}
ANNOTATION = {
    "question_id": int,
    "image_id": int,
    "question_type": str,
    "answer_type": str,
    "multiple_choice_answer": str,
    "answers": list,
}
LXMERT = {
    "question_id": int,
    "img_id": str,
    "sent": str,
    "label": dict,
    "question_type": str,
    "answer_type": str,
}
ANSWERS = 10  # people who answered each question
IMAGE_NAME = "COCO_val2014_{id:012d}.jpg"


@register_dataset("vqa", task="answers")
def read(settings):
    """Read questions and answers into a `Reading` of one sample per question.

    answers holds the soft score of every answer (those outside the vocabulary too, where the file
    has them); the label is the index of the one with the highest score in the vocabulary (of
    equal scores the lower index), -1 if none is in it. Groups: question_type, answer_type.

    Parameters
    ----------
    settings : dict
        root: folder, to which all other paths are relative; questions and annotations: official
        files, or lxmert: a file in the form of LXMERT's minival.json; images: folder;
        image_name: file name of an image by its id; count: how many questions, a seeded choice,
        null for all; seed; split: of all samples, or by_image; vocabulary:
        vilt or lxmert, the order of the published answers, or train; answers: a file of the
        vocabulary, which must be in that order; train_annotations: official annotations of the
        training split, whose answers make the vocabulary train; broken.
    """
    split, problems = settings.get("split", "test"), []
    questions = choose_questions(settings, problems)
    vocabulary = vocabulary_of(settings, problems)
    if problems:
        return Reading.unreadable(problems)
    index_of = {answer: index for index, answer in enumerate(vocabulary)}
    rows = []
    for question_id, question in questions.items():
        label = best_answer(question["answers"], index_of)
        rows.append(
            {
                "sample_id": str(question_id),
                "split": split_of(split, question["image_id"]),
                "image": question["image"],
                "text": question["text"],
                "label": label,
                "label_name": vocabulary[label] if label >= 0 else "",
                "answers": json.dumps(question["answers"], ensure_ascii=False),
                "at": question["at"],
                "group_question_type": question["question_type"],
                "group_answer_type": question["answer_type"],
            }
        )
    return Reading(
        pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(COLUMNS)),
        problems,
        task="answers",
        classes=vocabulary,
        broken=settings.get("broken", "exclude"),
    )


def choose_questions(settings, problems):
    """{question_id: question} of the seeded choice, by ascending id.

    A question has image (its path), text, answers {answer: soft score}, question_type,
    answer_type and at. Each one has a rank of its own, see `coco.choose_images`.
    """
    form = read_lxmert if settings.get("lxmert") else read_official
    questions = form(settings, problems)
    name = settings.get("image_name", IMAGE_NAME)
    if not is_image_name(name):
        problems.append(
            f"dataset.image_name: found {name!r}, expected a file name with the number of the "
            f"image in it, such as {IMAGE_NAME}"
        )
        return {}
    seed, count = settings.get("seed", 0), settings.get("count", 1000)
    ranked = sorted(questions, key=lambda question_id: seed_from("vqa", seed, question_id))
    folder = Path(settings["root"]) / image_folder(settings)
    chosen = {question_id: questions[question_id] for question_id in sorted(ranked[:count])}
    for question in chosen.values():
        question["image"] = str(folder / name.format(id=question["image_id"]))
    return chosen


def is_image_name(name):
    """Whether `name` is a plain file name that differs from image to image."""
    try:
        names = {name.format(id=number) for number in (1, 2)}
    except (ValueError, LookupError, AttributeError):
        return False
    return len(names) == 2 and all(map(is_file_name, names))


def official_names(settings):
    """{questions, annotations: path relative to root}."""
    defaults = {"questions": QUESTIONS, "annotations": ANNOTATIONS}
    return {key: settings.get(key, name) for key, name in defaults.items()}


def image_folder(settings):
    return settings.get("images", "val2014")


def read_official(settings, problems):
    """{question_id: image_id, text, answers, question_type, answer_type, at}, officially given."""
    paths, records = {}, {}
    names = official_names(settings)
    for key, fields in (("questions", QUESTION), ("annotations", ANNOTATION)):
        path = Path(settings["root"]) / names[key]
        content = read_json(path, f"dataset.{key}", problems)
        valid = [] if content is None else records_of(content, key, fields, path, problems)
        paths[key], records[key] = path, by_id(valid, "question_id", path, problems)
    questions = {}
    for question_id, question in records["questions"].items():
        at = f"{paths['questions']} question {question_id}"
        annotation = records["annotations"].get(question_id)
        if annotation is None:
            problems.append(f"{at}: has no annotation in {paths['annotations']}")
            continue
        if annotation["image_id"] != question["image_id"]:
            problems.append(
                f"{at}: image_id {question['image_id']}, its annotation has "
                f"{annotation['image_id']}; take both files of one split"
            )
        questions[question_id] = {
            "image_id": question["image_id"],
            "text": question["question"],
            "answers": soft_scores(ten_answers(annotation, paths["annotations"], problems)),
            "question_type": annotation["question_type"],
            "answer_type": annotation["answer_type"],
            "at": at,
        }
    for question_id in records["annotations"].keys() - records["questions"].keys():
        problems.append(
            f"{paths['annotations']} question_id {question_id}: no such question in "
            f"{paths['questions']}; take both files of one split"
        )
    return questions


def ten_answers(annotation, path, problems):
    """The answers of ten people to one question."""
    given = annotation["answers"]
    texts = [item.get("answer") if isinstance(item, dict) else None for item in given]
    if len(texts) != ANSWERS or not all(is_text(text) for text in texts):
        problems.append(
            f"{path} question_id {annotation['question_id']}: answers {json.dumps(given)[:60]}; "
            f"expected {ANSWERS} objects with the key answer"
        )
        return []
    return texts


def is_text(value):
    return isinstance(value, str) and is_encodable(value)


def read_lxmert(settings, problems):
    """As `read_official`, from a list of questions with soft scores."""
    path = Path(settings["root"]) / settings["lxmert"]
    content = read_json(path, "dataset.lxmert", problems)
    valid = [] if content is None else records_of(content, "", LXMERT, path, problems)
    questions = {}
    for question_id, record in by_id(valid, "question_id", path, problems).items():
        at = f"{path} question {question_id}"
        number = re.search(r"\d+$", record["img_id"])
        if number is None:
            problems.append(f"{at}: img_id {record['img_id']!r}; expected a name with a number")
            continue
        wrong = {a: s for a, s in record["label"].items() if not (is_text(a) and is_score(s))}
        if wrong:
            problems.append(f"{at}: scores {json.dumps(wrong)}; expected more than 0, up to 1")
            continue
        questions[question_id] = {
            "image_id": int(number[0]),
            "text": record["sent"],
            "answers": {answer: float(score) for answer, score in record["label"].items()},
            "question_type": record["question_type"],
            "answer_type": record["answer_type"],
            "at": at,
        }
    return questions


def vocabulary_of(settings, problems):
    """The answers that models choose from, in the order of their indices."""
    root, order = Path(settings["root"]), settings.get("vocabulary", "vilt")
    try:
        if order != "train" and settings.get("answers"):
            return read_vocabulary(root / settings["answers"], order)
        if order != "train":
            return published_vocabulary(order)
    except DataError as error:
        problems += error.problems
        return []
    path = root / settings["train_annotations"]
    content = read_json(path, "dataset.train_annotations", problems)
    if content is None:
        return []
    found = records_of(content, "annotations", {"multiple_choice_answer": str}, path, problems)
    answers = [normalise_answer(record["multiple_choice_answer"]) for record in found]
    vocabulary = frequent_answers(answers, MIN_OCCURRENCES)
    if not vocabulary:
        problems.append(f"{path}: no answer occurs {MIN_OCCURRENCES} times; expected many")
    return vocabulary
