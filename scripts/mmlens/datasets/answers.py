"""Answers to questions: their normal form, their soft scores and the vocabularies of VQA v2."""

import json
import re
from collections import Counter
from pathlib import Path

from ..table import DataError, read_table

# One line per answer: its index in the order of ViLT and METER, and in that of LXMERT.
PUBLISHED = Path(__file__).resolve().parents[3] / "resources/vqa/answers.csv"
ORDERS = ("vilt", "lxmert")
MIN_OCCURRENCES = 9

ARTICLES = ("a", "an", "the")
NUMBER_WORDS = "zero one two three four five six seven eight nine ten"
NUMBERS = {word: str(number) for number, word in enumerate(NUMBER_WORDS.split())} | {"none": "0"}
# All but the apostrophe, which would make plurals of possessives, and the colon of times.
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
CONTRACTIONS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't
mightn't've must've mustn't needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
someone's something'd something'd've something'll that's there'd there'd've there're there's
they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's
won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""
# Every spelling that lacks one apostrophe.
APOSTROPHES = {
    word[: match.start()] + word[match.end() :]: word
    for word in CONTRACTIONS.split()
    for match in re.finditer("'", word)
}


def normalise_answer(text):
    """The form in which VQA v2 compares answers (visualqa.org/evaluation).

    Lower case; punctuation removed; number words to ten as digits ("none" is 0); no articles;
    apostrophes of contractions restored. A punctuation mark becomes a space, as in "t-shirt",
    unless it stands next to a space somewhere in the text, or the text has a comma between
    digits, as in "1,000": then it is deleted. A period goes unless a digit follows it.
    """
    text = " ".join(text.split())
    comma_in_number = re.search(r"\d,\d", text)
    replacements = {
        mark: "" if comma_in_number or f"{mark} " in text or f" {mark}" in text else " "
        for mark in PUNCTUATION
    }
    text = re.sub(r"\.(?!\d)", "", text.translate(str.maketrans(replacements)))
    words = [NUMBERS.get(word, word) for word in text.lower().split()]
    return " ".join(APOSTROPHES.get(word, word) for word in words if word not in ARTICLES)


def soft_scores(answers):
    """{answer: score} of the answers of ten people: .3, .6, .9 and 1 for 1, 2, 3 and more of them.

    That is the VQA accuracy of that answer, and the target on which the published models were
    trained. Answers are counted as they are written.
    """
    return {answer: min(3 * count, 10) / 10 for answer, count in Counter(answers).items()}


def is_score(value):
    """Whether a value of a file is a soft score: a number above 0, up to 1."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1


def best_answer(scores, index_of):
    """Index of the answer with the highest score, -1 if no answer is in the vocabulary.

    scores : {answer: score}; index_of : {answer: index}. Of equal scores the lower index wins.
    """
    known = [(-score, index_of[answer]) for answer, score in scores.items() if answer in index_of]
    return min(known)[1] if known else -1


def frequent_answers(answers, at_least=1):
    """The answers that occur at least so often: the most frequent first, then by the alphabet."""
    counts = Counter(answers)
    kept = [answer for answer, count in counts.items() if count >= at_least]
    return sorted(kept, key=lambda answer: (-counts[answer], answer))


def published_vocabulary(order):
    """The 3,129 answers of VQA v2 in one of the ORDERS."""
    table = read_table(PUBLISHED)
    return table.assign(index=table[order].astype(int)).sort_values("index")["answer"].tolist()


def read_vocabulary(path, order):
    """The vocabulary of a file, which must be the published one in the order called `order`.

    Parameters
    ----------
    path : JSON: a list of answers, {answer: index} or {index: answer}. One published dictionary
        lacks the empty answer (index 125 in the order vilt): it is filled in, with a note in
        the log.
    order : one of ORDERS

    Raises
    ------
    DataError if the file holds something else, above all the other order: with it a model's
    outputs would silently mean other answers.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        found = by_index(content)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        expected = "a JSON list of answers, {answer: index} or {index: answer}"
        problem = f"{path}: {error}; expected {expected} (dataset.answers)"
        raise DataError("vocabulary of answers", [problem]) from None
    published = {name: dict(enumerate(published_vocabulary(name))) for name in ORDERS}
    expected = published[order]
    empty = next(index for index, answer in expected.items() if not answer)
    if len(found) == len(expected) - 1 and empty not in found:
        print(f"{path}: no entry {empty}; it is the empty answer and was filled in")
        found[empty] = ""
    if found == expected:
        return list(expected.values())
    other = [name for name in ORDERS if found == published[name]]
    if other:
        problem = f"the order is {other[0]}, not {order}; set dataset.vocabulary: {other[0]}"
    else:
        first = min(k for k in {*found, *expected} if found.get(k) != expected.get(k))
        problem = (
            f"{len(found)} answers, entry {first} is {found.get(first)!r}; expected the "
            f"{len(expected)} of VQA v2 in the order {order}, where it is {expected.get(first)!r}"
        )
    raise DataError("vocabulary of answers", [f"{path}: {problem} (dataset.answers)"])


def by_index(content):
    """{index: answer} of a vocabulary in any of its three forms; ValueError if it is none."""
    if isinstance(content, list):
        content = dict(enumerate(content))
    elif isinstance(content, dict) and all(isinstance(v, int) for v in content.values()):
        if len(set(content.values())) < len(content):
            raise ValueError("an index occurs more than once")
        content = {index: answer for answer, index in content.items()}
    elif isinstance(content, dict):
        content = {int(index): answer for index, answer in content.items()}
    else:
        raise ValueError(f"found {type(content).__name__}")
    wrong = [answer for answer in content.values() if not isinstance(answer, str)]
    if wrong:
        raise ValueError(f"found the answer {wrong[0]!r}")
    return content
