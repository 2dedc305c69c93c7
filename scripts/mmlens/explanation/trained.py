"""A trained model of a run with the samples that it is looked at with."""

import pandas as pd
import torch

from ..features.reader import FeatureReader
from ..models import build_model, input_spec
from ..models.inputs import EncodedSamples
from ..table import answer_names, check_labels, read_samples
from ..weights import load_weights


def read_labelled(inputs):
    """(samples, answers) of a run: its table, and the names of its answers (None for two labels).

    inputs : with the paths samples and classes

    Raises
    ------
    DataError if a sample has no label.
    """
    samples = read_samples(inputs.samples)
    check_labels(samples)
    return samples, answer_names(samples, inputs.classes)


def load_trained(inputs, settings, chosen, answers):
    """(model, data, predicted) of some samples.

    Parameters
    ----------
    inputs : with the paths predictions, tokenizer and weights, and features, perhaps empty
    settings : dict of how the model is built: name, arguments, max_length
    chosen : DataFrame of N samples of the run
    answers : of `read_labelled`

    Returns
    -------
    model : Model with the weights of the checkpoint
    data : EncodedSamples; its samples have what the model says of them: prediction, threshold
    predicted : bool tensor (N,), whether it says label 1; of answers long (N,), their numbers
    """
    name, arguments = settings["name"], settings["arguments"]
    predictions = pd.read_parquet(inputs.predictions).set_index("sample_id")
    data = EncodedSamples(
        chosen.join(predictions[["prediction", "threshold"]], on="sample_id"),
        input_spec(name, arguments, inputs.tokenizer, settings["max_length"]),
        features=FeatureReader(inputs.features[0]) if inputs.features else None,
        answers=answers,
    )
    model = build_model(name, arguments, data)
    load_weights(inputs.weights, model)
    predicted = torch.tensor(data.samples["prediction"].to_numpy())
    return model, data, predicted if answers else predicted == 1
