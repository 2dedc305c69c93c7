"""The threshold of a model that is not trained in the run."""

from ..metrics import choose_threshold
from ..models.exports import read_config
from ..models.folders import is_export
from .predict import predict

PLAIN = 0.5


def threshold_of(model, data, weights, device):
    """Probability from which on a model says 1, and where that is from.

    It is chosen on the split val where that has both labels; else it is that of the exported
    checkpoint, or PLAIN.

    Parameters
    ----------
    model : Model on `device`; data : EncodedSamples; weights : what the model was read from

    Returns
    -------
    float, str
    """
    rows = data.split("val")
    labels = data.labels[rows].numpy()
    if {0, 1} <= set(labels):
        probability = predict(model, data, rows, device).double().sigmoid().numpy()
        return choose_threshold(labels, probability), "val"
    # Of what was trained on classes or answers there is none.
    kept = read_config(weights)["threshold"] if is_export(weights) else None
    return (PLAIN, "default") if kept is None else (kept, "checkpoint")
