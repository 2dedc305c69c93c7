"""Accuracy of answers to questions, as VQA v2 defines it."""

from ..datasets.answers import normalise_answer


def vqa_accuracy(prediction, answers):
    """VQA accuracy of one answer (Antol et al. 2015; visualqa.org/evaluation).

    Mean, over the subsets that leave one person out, of min(n / 3, 1) where n of the subset said
    that. Prediction and answers are compared in their normal form, as the description there says;
    the released code leaves number words and articles in people's answers, so that with it
    nothing can match an answer such as "one way".

    prediction : str; answers : list of str, one per person (ten in VQA v2)
    """
    said = normalise_answer(prediction)
    same = [normalise_answer(answer) == said for answer in answers]
    scores = [min((sum(same) - own) / 3, 1) for own in same]
    return sum(scores) / len(scores)


def soft_accuracy(prediction, scores):
    """`vqa_accuracy` from the soft scores of the column answers of the samples table.

    Equal to it for ten answers, since .3 for each of up to three people who say the same, and 1
    for more of them, add up over the spellings of one answer.

    prediction : str; scores : {answer: soft score}
    """
    said = normalise_answer(prediction)
    return min(
        1.0, sum(score for answer, score in scores.items() if normalise_answer(answer) == said)
    )
