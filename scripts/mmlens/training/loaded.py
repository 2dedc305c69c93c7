"""Use of a model outside of the workflow."""

from zipfile import is_zipfile

import numpy as np
import pandas as pd

from ..features.reader import FeatureBatch
from ..models.inputs import EncodedSamples
from .predict import prediction_table
from .zero_shot import logits_function


class GivenFeatures:
    """Features of images in memory, in the place of a `FeatureReader`.

    features : float (N, R, D); boxes : float (N, R, 4), x1 y1 x2 y2 as shares of the image;
    valid : bool (N, R), False for padding; without it all are regions. See `check_features`.
    """

    def __init__(self, features, boxes, valid=None):
        self.features = np.asarray(features, np.float32)
        self.boxes = np.asarray(boxes, np.float32)
        shape = self.features.shape[:2]
        self.valid = np.ones(shape, bool) if valid is None else np.asarray(valid, bool)

    def places_of(self, images):
        return np.array([int(image) for image in images], int)

    def read(self, places):
        return FeatureBatch(self.features[places], self.boxes[places], self.valid[places])


def check_features(arrays, axes, source="features"):
    """Check arrays that `GivenFeatures` is made of.

    Parameters
    ----------
    arrays : {name: array}
    axes : names of the axes of the array features, "NRD", or "RD" of one image
    source : what errors name, the argument or file that they are from

    Raises
    ------
    ValueError if one is missing or unknown, shapes differ, or the box of a region that is no
    padding does not lie in the image.
    """
    if not {"features", "boxes"} <= arrays.keys() <= {"features", "boxes", "valid"}:
        raise ValueError(
            f"{source}: found {', '.join(arrays) or 'no arrays'}, expected features, boxes and "
            "perhaps valid; name the arrays so"
        )
    shape = np.shape(arrays["features"])
    if len(shape) != len(axes):
        raise ValueError(
            f"{source}: features: found shape {shape}, expected ({', '.join(axes)}), R regions of "
            "width D; reshape the array"
        )
    boxes, valid = np.asarray(arrays["boxes"]), np.asarray(arrays.get("valid", np.ones(shape[:-1])))
    for name, found, expected in (
        ("boxes", boxes.shape, (*shape[:-1], 4)),
        ("valid", valid.shape, shape[:-1]),
    ):
        if found != expected:
            raise ValueError(
                f"{source}: {name}: found shape {found}, expected {expected}, as features have "
                f"shape {shape}; give one per region"
            )
    low, high = boxes[..., :2], boxes[..., 2:]
    inside = ((low >= 0) & (low <= high) & (high <= 1)).all(-1)
    wrong = np.argwhere(valid.astype(bool) & ~inside)
    if len(wrong):
        first = tuple(wrong[0].tolist())
        raise ValueError(
            f"{source}: boxes: found {boxes[first].tolist()} at {list(first)}, expected x1 y1 x2 "
            "y2 as shares of the image, 0 <= x1 <= x2 <= 1 and 0 <= y1 <= y2 <= 1; divide pixels "
            "by its width and height"
        )


def read_features(path):
    """{name: array} of an .npz file with the features of one image; ValueError if it holds none."""
    if not is_zipfile(path):
        raise ValueError(
            f"{path}: found no .npz file, expected one with features (R, D), boxes (R, 4) and "
            "perhaps valid (R,); correct the path, or write it by numpy.savez"
        )
    with np.load(path) as arrays:
        found = dict(arrays)
    check_features(found, "RD", path)
    return found


class LoadedModel:
    """A model with all that it takes to use it; `mmlens.models.load(folder)`, see also opened.py.

    Attributes
    ----------
    model : Model in eval mode; spec : InputSpec
    config : dict of what its outputs mean: architecture, task, classes, zero_shot, threshold and
        features (None, or a dict with their width), of which config.json of an exported checkpoint
        holds more
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
        ValueError if what the model reads is missing, not of one length, or no features of it.
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

    def encode(self, images=None, texts=None, features=None):
        """`EncodedSamples` of N samples.

        Parameters
        ----------
        images : paths of N image files; None for a model of words alone, or with features
        texts : N texts; None for a model of images alone
        features : for a model on regions, dict of arrays: features (N, R, D), boxes (N, R, 4) as
            shares of the image, and perhaps valid (N, R), of the extractor that config.json names

        Raises
        ------
        ValueError if one of these is missing, they are not of one length, or features are not
        those of the model.
        """
        if features is not None:
            self.check_given(features)
        given = {"images": images, "texts": texts, "features": features and features["features"]}
        counts = {name: len(values) for name, values in given.items() if values is not None}
        needed = self.needed(features is not None)
        if needed - counts.keys() or len(set(counts.values())) != 1:
            wanted = ", ".join(sorted(needed))
            raise ValueError(
                f"predict: found {counts or 'none'}, expected {wanted} of one length; give one of "
                "each per sample"
            )
        count = next(iter(counts.values()))
        shown = images if features is None else range(count)
        frame = samples_frame(
            [""] * count if shown is None else [str(image) for image in shown],
            [""] * count if texts is None else list(texts),
        )
        return EncodedSamples(
            frame, self.spec, self.features if features is None else GivenFeatures(**features)
        )

    def check_given(self, features):
        """ValueError about the argument features of `encode` that this model cannot read."""
        if not self.config["features"]:
            name = self.config["architecture"]
            raise ValueError(f"features: found some, but {name} reads none; leave them out")
        check_features(features, "NRD")
        found, width = np.shape(features["features"])[-1], self.config["features"]["width"]
        if found != width:
            raise ValueError(
                f"features: features: found width {found}, expected {width}; give those of the "
                "extractor that the model was trained on"
            )

    def needed(self, features=False):
        """Names of the arguments of `predict` that this model cannot do without.

        features : whether features are given; a model of a run that reads features of its images
            takes them instead
        """
        given = self.config["features"] and (features or self.features is None)
        image = {"features"} if given else {"images"}
        texts = {"texts"} if self.config["task"] != "classes" else set()
        reads = self.model.modalities
        return (image if "image" in reads else set()) | (texts if "text" in reads else set())


def samples_frame(images, texts):
    """Rows of a samples table: N images (paths, or "") and N texts, without labels."""
    names = [str(number) for number in range(len(texts))]
    facts = {"sample_id": names, "split": "test", "image": images, "text": texts, "label": -1}
    return pd.DataFrame(facts)
