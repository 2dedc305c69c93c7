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


def build_trained(inputs, settings, chosen, answers=None, samples=None):
    """(model, data) of some samples.

    Parameters
    ----------
    inputs : with the paths tokenizer and weights, and features, perhaps empty
    settings : dict of how the model is built: name, arguments, max_length
    chosen : DataFrame of N samples of the run
    answers : names of all answers, None for two labels and for classes
    samples : DataFrame of all samples of the run, of which a model may be shown some as examples;
        None for the chosen ones

    Returns
    -------
    model : Model with the weights of the checkpoint, or, if it is never trained, those it is built
        with; data : EncodedSamples
    """
    name, arguments = settings["name"], settings["arguments"]
    spec = input_spec(name, arguments, inputs.tokenizer, settings["max_length"])
    features = FeatureReader(inputs.features[0]) if inputs.features else None
    data = EncodedSamples(chosen, spec, features, answers)
    whole = data if samples is None else EncodedSamples(samples, spec, features, answers)
    model = build_model(name, arguments, whole)
    if model.trained:
        load_weights(inputs.weights, model)
    return model, data


def load_trained(inputs, settings, chosen, answers):
    """(model, data, predicted) of some samples, with what the model says of them.

    Parameters
    ----------
    inputs : those of `build_trained`, and the path predictions
    settings, chosen, answers : of `build_trained`

    Returns
    -------
    model : Model with the weights of the checkpoint
    data : EncodedSamples; its samples have the columns prediction and threshold
    predicted : bool tensor (N,), whether it says label 1; of answers long (N,), their numbers
    """
    predictions = pd.read_parquet(inputs.predictions).set_index("sample_id")
    said = chosen.join(predictions[["prediction", "threshold"]], on="sample_id")
    model, data = build_trained(inputs, settings, said, answers)
    predicted = torch.tensor(data.samples["prediction"].to_numpy())
    return model, data, predicted if answers else predicted == 1
