"""Use of a model outside of the workflow."""

import numpy as np
import pandas as pd

from ..features.reader import FeatureBatch
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
    """A model with all that it takes to use it; `mmlens.models.load(folder)`, see also opened.py.

    Attributes
    ----------
    model : Model in eval mode; spec : InputSpec
    config : dict of what its outputs mean: architecture, task, classes, zero_shot, threshold and
        features, of which config.json of an exported checkpoint holds more
    features : FeatureReader of the images that a model of a run reads, or None
    """

    def __init__(self, model, spec, config, features=None, device="cpu"):
        self.model = model.to(device).eval()
        self.spec, self.config, self.features, self.device = spec, config, features, device

    def predict(self, images=None, texts=None, features=None):
        """What the model says of N samples.

        Parameters
        ----------
        images, texts, features : see `encode`

        Returns
        -------
        DataFrame of N rows: logit, probability and prediction; prediction is 0 or 1 (at the
        threshold of config.json), or the name of the best answer or class

        Raises
        ------
        ValueError if what the model reads is missing, or not of one length.
        """
        data = self.encode(images, texts, features)
        names, task = self.config["classes"], self.config["task"]
        logits_of = logits_function(
            self.model, data, task, names, self.config["zero_shot"], self.device
        )
        table = prediction_table(logits_of, data, ("test",), self.config["threshold"])
        said = table[["logit", "probability", "prediction"]].copy()
        if task != "binary":
            said["prediction"] = [names[number] for number in said["prediction"]]
        return said

    def encode(self, images=None, texts=None, features=None, needed=None):
        """`EncodedSamples` of N samples.

        Parameters
        ----------
        images : paths of N image files; None for a model of words alone, or with features
        texts : N texts; None for a model of images alone
        features : for a model on regions, dict of arrays: features (N, R, D), boxes (N, R, 4) as
            shares of the image, and perhaps valid (N, R), of the extractor that config.json names
        needed : names of those that may not be missing, by default `needed`

        Raises
        ------
        ValueError if one of these is missing, or they are not of one length.
        """
        given = {"images": images, "texts": texts, "features": features and features["features"]}
        counts = {name: len(values) for name, values in given.items() if values is not None}
        needed = self.needed() if needed is None else needed
        if needed - counts.keys() or len(set(counts.values())) != 1:
            wanted = ", ".join(sorted(needed))
            raise ValueError(f"predict: found {counts or 'none'}, expected {wanted} of one length")
        count = next(iter(counts.values()))
        shown = images if features is None else range(count)
        frame = samples_frame(
            [""] * count if shown is None else [str(image) for image in shown],
            [""] * count if texts is None else list(texts),
        )
        return EncodedSamples(
            frame, self.spec, self.features if features is None else GivenFeatures(**features)
        )

    def needed(self):
        """Names of the arguments of `predict` that this model cannot do without."""
        given = self.config["features"] and self.features is None
        image = {"features"} if given else {"images"}
        texts = {"texts"} if self.config["task"] != "classes" else set()
        reads = self.model.modalities
        return (image if "image" in reads else set()) | (texts if "text" in reads else set())


def samples_frame(images, texts):
    """Rows of a samples table: N images (paths, or "") and N texts, without labels."""
    names = [str(number) for number in range(len(texts))]
    facts = {"sample_id": names, "split": "test", "image": images, "text": texts, "label": -1}
    return pd.DataFrame(facts)
