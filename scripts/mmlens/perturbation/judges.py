"""What the logits for a subset of tokens say about its sample: the score columns of a test."""

import json

import numpy as np
import torch

from ..evaluation.vqa import soft_accuracy


class BinaryJudge:
    """Scores of logits (K,) of label 1.

    accuracy : is the prediction at the sample's threshold still the label; probability, logit : of
    the originally predicted class

    samples : DataFrame with label, prediction and threshold
    """

    def __init__(self, samples):
        self.label = samples["label"].to_numpy() == 1
        self.predicted = samples["prediction"].to_numpy() == 1
        self.threshold = samples["threshold"].to_numpy()

    def __call__(self, logits, rows):
        """(K, 3) accuracy, probability, logit; rows : numbers of the samples."""
        rows = np.asarray(rows)
        logit = logits.double().cpu().numpy()
        probability = 1 / (1 + np.exp(-logit))
        says = probability >= self.threshold[rows]
        predicted = self.predicted[rows]
        return np.stack(
            [
                (says == self.label[rows]).astype(float),
                np.where(predicted, probability, 1 - probability),
                np.where(predicted, logit, -logit),
            ],
            1,
        )


class AnswerJudge:
    """Scores of logits (K, C) over the answers of a vocabulary.

    accuracy : VQA accuracy of the answer with the highest logit; probability, logit : of the
    originally predicted answer; the probability is its sigmoid, as in training

    samples : DataFrame with answers (JSON {answer: soft score}) and prediction (index)
    names : the C answers
    """

    def __init__(self, samples, names):
        self.scores = [json.loads(cell) for cell in samples["answers"]]
        self.predicted = torch.tensor(samples["prediction"].to_numpy())
        self.names = names
        self.known = {}

    def accuracy(self, row, answer):
        """VQA accuracy of an answer (its number) for a sample."""
        if (row, answer) not in self.known:
            self.known[row, answer] = soft_accuracy(self.names[answer], self.scores[row])
        return self.known[row, answer]

    def __call__(self, logits, rows):
        """(K, 3) accuracy, probability, logit; rows : numbers of the samples."""
        logits = logits.double().cpu()
        own = logits.gather(1, self.predicted[list(rows)][:, None])[:, 0].numpy()
        said = logits.argmax(1).tolist()
        accuracy = [self.accuracy(row, answer) for row, answer in zip(rows, said, strict=True)]
        return np.stack([np.array(accuracy), 1 / (1 + np.exp(-own)), own], 1)


def judge_of(samples, names):
    """The judge of a run's task; names : the answers of its vocabulary, None for two labels."""
    return BinaryJudge(samples) if names is None else AnswerJudge(samples, names)
