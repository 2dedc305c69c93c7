"""Use of an exported checkpoint outside of the workflow."""

import numpy as np
import pandas as pd

from ..features.reader import FeatureBatch
from ..models.exports import build_exported, read_config, read_spec
from ..models.inputs import EncodedSamples
from .predict import prediction_table
from .zero_shot import logits_function


class GivenFeatures:
    """Features of images in memory, in the place of a `FeatureReader`.

    features : float (N, R, D); boxes : float (N, R, 4), x1 y1 x2 y2 as shares of the image;
    valid : bool (N, R), False for padding; without it all are regions.
    """

    def __init__(self, features, boxes, valid=None):
        self.features = np.asarray(features, np.float32)
        self.boxes = np.asarray(boxes, np.float32)
        self.valid = np.ones(self.features.shape[:2], bool) if valid is None else np.asarray(valid)

    def places_of(self, images):
        return np.array([int(image) for image in images], int)

    def read(self, places):
        return FeatureBatch(self.features[places], self.boxes[places], self.valid[places])


class LoadedModel:
    """An exported checkpoint: `mmlens.models.load(folder)`.

    Attributes
    ----------
    model : Model in eval mode; spec : InputSpec; config : content of its config.json
    """

    def __init__(self, folder, device="cpu"):
        self.config, self.spec = read_config(folder), read_spec(folder)
        self.model = build_exported(folder).to(device).eval()
        self.device = device

    def predict(self, images=None, texts=None, features=None):
        """What the model says of N samples.

        Parameters
        ----------
        images : paths of N image files; None for a model of words alone, or with features
        texts : N texts; None for a model of images alone
        features : for a model on regions, dict of arrays: features (N, R, D), boxes (N, R, 4) as
            shares of the image, and perhaps valid (N, R), of the extractor that config.json names

        Returns
        -------
        DataFrame of N rows: logit, probability and prediction; prediction is 0 or 1 (at the
        threshold of config.json), or the name of the best answer or class

        Raises
        ------
        ValueError if what the model reads is missing, or not of one length.
        """
        given = {"images": images, "texts": texts, "features": features and features["features"]}
        counts = {name: len(values) for name, values in given.items() if values is not None}
        missing = self.needed() - counts.keys()
        if missing or len(set(counts.values())) != 1:
            wanted = ", ".join(sorted(self.needed()))
            raise ValueError(f"predict: found {counts or 'none'}, expected {wanted} of one length")
        count = next(iter(counts.values()))
        shown = images if features is None else range(count)
        frame = pd.DataFrame(
            {
                "sample_id": [str(number) for number in range(count)],
                "split": "test",
                "image": [""] * count if shown is None else [str(image) for image in shown],
                "text": [""] * count if texts is None else list(texts),
                "label": -1,
            }
        )
        data = EncodedSamples(frame, self.spec, features and GivenFeatures(**features))
        names, task = self.config["classes"], self.config["task"]
        logits_of = logits_function(
            self.model, data, task, names, self.config["zero_shot"], self.device
        )
        table = prediction_table(logits_of, data, ("test",), self.config["threshold"])
        said = table[["logit", "probability", "prediction"]].copy()
        if task != "binary":
            said["prediction"] = [names[number] for number in said["prediction"]]
        return said

    def needed(self):
        """Names of the arguments of `predict` that this model cannot do without."""
        image = {"features"} if self.config["features"] else {"images"}
        texts = {"texts"} if self.config["task"] != "classes" else set()
        reads = self.model.modalities
        return (image if "image" in reads else set()) | (texts if "text" in reads else set())
