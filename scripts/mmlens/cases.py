"""One case: what a model says of one image and text, and what several methods make of it."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from . import __version__
from .datasets.images import open_rgb
from .explanation import METHODS, NotApplicableError
from .explanation.attention import layer_attention
from .explanation.capture import capture
from .explanation.explain import image_boxes, method_maps, needs_of, relevance_of
from .explanation.maps import Maps
from .explanation.words import merge_pieces
from .files import write_json
from .training.loaded import LoadedModel
from .training.opened import open_model
from .training.threshold import PLAIN

PACKAGES = ("torch", "transformers", "tokenizers", "numpy")


@dataclass(frozen=True)
class Case:
    """One explained case.

    image, text : what was given, a path and a text, None where it was not
    logit, probability : of the explained class, its logit and the sigmoid of it
    prediction, target : what the model says, and the explained class: 0 or 1, or an answer
    tokens : pieces of the text, T strings; words : number of the word of each
    grid : (rows, columns) of the image's patches, (0, 0) for regions
    boxes : (N, 4), x1 y1 x2 y2 of the image's tokens as shares of it; (0, 4) where patches fill it
    maps : {method: {modality: (N,) or (T,)}}
    layers : {modality: (L, N) or (L, T)}, raw attention of every layer
    flags : {method: why a map of it means nothing, ""}; facts : {method: JSON, "" of most}
    not_applicable : {method: why}, "layers" for those
    versions : {package: version}
    """

    image: str | None
    text: str | None
    logit: float
    probability: float
    prediction: object
    target: object
    tokens: list
    words: list
    grid: tuple
    boxes: np.ndarray
    maps: dict
    layers: dict
    flags: dict
    facts: dict
    not_applicable: dict
    versions: dict

    def of_words(self, method):
        """Words of the text and what a method gives each, the sum over its pieces."""
        return merge_pieces(self.tokens, self.maps[method]["text"], self.words)

    def to_dict(self):
        """All of it as plain values, for JSON, with the relevance of whole words."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__}
        own |= {"grid": list(self.grid), "boxes": self.boxes.tolist()}
        own["maps"] = {name: plain(maps) for name, maps in self.maps.items()}
        own["layers"] = plain(self.layers)
        for name, maps in own["maps"].items():
            if "text" in maps:
                words, values = self.of_words(name)
                maps["words"] = [[word, number(v)] for word, v in zip(words, values, strict=True)]
        return own

    def figure(self):
        """Every method's map over the image, and its words as bars, as a matplotlib figure."""
        from .figures.cases import overlay  # matplotlib is slow to import

        return overlay(self)

    def layers_figure(self):
        """Raw attention of every layer, as a matplotlib figure."""
        from .figures.cases import layers

        return layers(self)

    def write(self, folder):
        """Write case.json, overlay.png, overlay.svg, layers.png and layers.svg to a folder."""
        from .figures.style import save

        folder = Path(folder)
        write_json(folder / "case.json", self.to_dict(), indent=1)
        for name, figure in (("overlay", self.figure()), ("layers", self.layers_figure())):
            save(figure, folder / f"{name}.svg", folder / f"{name}.png")


def number(value):
    """A number with six significant digits."""
    return float(f"{value:.6g}")


def plain(maps):
    """{modality: array} as lists of numbers."""
    rounded = np.vectorize(number, otypes=[float])
    return {modality: rounded(values).tolist() for modality, values in maps.items()}


def explain_case(
    model,
    image=None,
    text=None,
    method="relevance",
    *,
    target=None,
    features=None,
    arguments=None,
    target_layer=None,
    sample_id="0",
    architecture=None,
    model_arguments=None,
    device="cpu",
):
    """Explain one decision of a model; `mmlens.explain`.

    Parameters
    ----------
    model : `LoadedModel`, or the folder of one (see `open_model`)
    image : path of an image file; None for a model of words alone; with features it is only drawn
        on, and may be None
    text : None for a model of images alone
    method : name of the registry, or list of them
    target : class to explain: 0 or 1, or the name of an answer; by default what the model says
    features : for a model on regions, dict of arrays: features (R, D), boxes (R, 4) as shares of
        the image, and perhaps valid (R,); without them a model of a run finds those of the run's
        images itself
    arguments : {method: its arguments}
    target_layer : {modality: module path} of the layer that Grad-CAM reads
    sample_id : what random numbers are keyed by, for a sample of a run its own
    architecture, model_arguments : of a folder in the format of save_pretrained; `open_model`

    Returns
    -------
    Case

    Raises
    ------
    ValueError if an input is missing, features are not those of the model, or a name or target is
    unknown; DataError about the folder.
    """
    methods = [method] if isinstance(method, str) else list(dict.fromkeys(method))
    arguments = arguments or {}
    for name in (*methods, *arguments):
        METHODS.check(name)
    if not isinstance(model, LoadedModel):
        model = open_model(model, architecture, model_arguments, device)
    data = encoded(model, image, text, features, sample_id)
    row = torch.arange(1)
    batch = data.batch(row, model.device)
    with torch.no_grad():
        logits = model.model(model.model.embed(batch))[0].double().cpu()
    said, chosen = decide(logits, model.config, target)
    seen = capture(
        model.model,
        batch,
        [sample_id],
        torch.tensor([chosen if logits.ndim else chosen == 1], device=model.device),
        target_layer,
        **needs_of(methods, arguments),
    )
    boxes = image_boxes(seen, data, row)
    rows, missing = {}, {}
    for name in methods:
        try:
            found = method_maps(name, seen, arguments)
            rows[name] = relevance_of(seen, data, found, boxes, 0, 0)
        except NotApplicableError as reason:
            missing[name] = str(reason)
    layers = {}
    try:
        content = seen.layout.content
        for modality, values in layer_attention(seen).items():
            layers[modality] = values[0][:, content[modality][0]].cpu().numpy()
    except NotApplicableError as reason:
        missing["layers"] = str(reason)
    # Where no method applies, a map of zeros still tells where the tokens lie.
    blank = {m: torch.zeros_like(c, dtype=torch.float) for m, c in seen.layout.content.items()}
    places = relevance_of(seen, data, Maps(blank), boxes, 0, 0)
    logit = float(logits[chosen]) if logits.ndim else float(logits if chosen == 1 else -logits)
    names = model.config["classes"] if logits.ndim else [0, 1]
    return Case(
        image=None if image is None else str(image),
        text=text,
        logit=number(logit),
        probability=number(1 / (1 + np.exp(-logit))),
        prediction=names[said],
        target=names[chosen],
        tokens=places["tokens"],
        words=places["words"],
        grid=(places["grid_rows"], places["grid_columns"]),
        boxes=places["boxes"].reshape(-1, 4),
        maps={
            name: {modality: found[modality] for modality in seen.layout.content}
            for name, found in rows.items()
        },
        layers=layers,
        flags={name: found["flags"] for name, found in rows.items()},
        facts={name: found["facts"] for name, found in rows.items()},
        not_applicable=missing,
        versions={"mmlens": __version__, **{name: version(name) for name in PACKAGES}},
    )


def encoded(model, image, text, features, sample_id):
    """`EncodedSamples` of the case; ValueError if what the model reads is missing."""
    one_of = {"images": "image", "texts": "text", "features": "features"}
    needed = {one_of[name] for name in model.needed(features is not None)}
    needed |= {"text"} & set(model.model.modalities)
    given = {"image": image, "text": text, "features": features}
    found = [name for name, value in given.items() if value is not None]
    missing = [name for name in given if name in needed and name not in found]
    if missing:
        regions = "image" in missing and model.config["features"]
        instead = ", or features for image" if regions else ""
        raise ValueError(
            f"explain: found {', '.join(found) or 'no input'}, expected "
            f"{', '.join(sorted(needed))}; give {' and '.join(missing)}{instead}"
        )
    one = features and {name: np.asarray(part)[None] for name, part in features.items()}
    data = model.encode(
        [image] if "image" in needed else None, [text] if "text" in needed else None, one
    )
    data.samples["sample_id"] = sample_id
    if data.spec.geometry is not None:
        data.samples[["width", "height"]] = open_rgb(image).size
    return data


def decide(logits, config, target):
    """(number of what the model says, number of the class to explain).

    logits : () of label 1, or (C,) of answers; config : of a `LoadedModel`; target : see
    `explain_case`
    """
    if logits.ndim:
        names = config["classes"]
        said, known = int(logits.argmax()), {name: k for k, name in enumerate(names)}
    else:
        threshold = PLAIN if config["threshold"] is None else config["threshold"]
        said, known = int(logits.sigmoid() >= threshold), {"0": 0, "1": 1}
    if target is None:
        return said, said
    if str(target) not in known:
        expected = ", ".join(list(known)[:10]) + (", ..." if len(known) > 10 else "")
        raise ValueError(f"target: found {target!r}, expected one of {expected}")
    return said, known[str(target)]
