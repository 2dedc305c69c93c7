"""The model card of an exported checkpoint."""

from math import isnan

from .. import __version__

TRAINING = ("epochs", "updates", "batch_size", "accumulate", "lr", "optimizer", "select")


def model_card(name, run, seed, config, modalities, counts, metrics):
    """Markdown text of the card.

    Parameters
    ----------
    name, run, seed : of the model in its run
    config : content of config.json of the exported checkpoint
    modalities : that the model reads
    counts : {split: number of samples}
    metrics : content of the metrics file of this model and seed
    """
    return "\n".join(
        [
            *("---", "library_name: mmlens", "---", ""),
            f"# {name}",
            "",
            f"Model {config['architecture']} with seed {seed} of run {run}, made by mmlens "
            f"{__version__}.",
            *("", "## Use", "", "```python", "from mmlens.models import load", ""),
            *(usage(config, modalities), "```", ""),
            *(inputs(config, modalities), "", "## Where it comes from", ""),
            *(f"- {line}" for line in origin(config, counts)),
            *("", "## Results", "", *results(config, metrics), "", "## Limits", ""),
            *(f"- {line}" for line in limits(config)),
            "",
        ]
    )


def usage(config, modalities):
    """A line of code that predicts."""
    arguments = {"text": 'texts=["a text"]', "image": 'images=["image.png"]'}
    if config["features"]:
        arguments["image"] = 'features={"features": features, "boxes": boxes}'
    given = ", ".join(arguments[modality] for modality in modalities)
    return f'load("export").predict({given})'


def inputs(config, modalities):
    """What the model reads."""
    features = config["features"]
    known = f"{config['vocabulary_size']} known ones"
    read = {
        "text": f"texts of up to {config['max_length']} tokens, of {known}",
        "image": "images as preprocessor_config.json says",
    }
    if features:
        read["image"] = (
            f"up to {features['tokens']} regions per image, of width {features['width']}, by the "
            f"extractor {features['extractor']}, whose settings are in config.json"
        )
    return f"It reads {'; '.join(read[modality] for modality in modalities)}."


def origin(config, counts):
    """Sentences on what the weights were and what was done to them."""
    start, training = config["start"], config["training"]
    if start:
        lines = [f"Started from {described(part)}." for part in start]
    else:
        lines = ["Trained from scratch: its weights were fresh, it knows this data alone."]
    if config["stem"]:
        lines.append("Its convolutional stem was pretrained on the masks of the training images.")
    if training is None:
        lines.append("Not trained in this run: its weights are those it started from.")
    else:
        recipe = ", ".join(f"{key} {training[key]}" for key in TRAINING if training.get(key))
        lines.append(
            f"Trained on {counts.get('train', 0)} samples of the split train, chosen on "
            f"{counts.get('val', 0)} of the split val ({recipe})."
        )
    data = config["data"]
    listed = ", ".join(f"{split} {count}" for split, count in counts.items())
    return [*lines, f"Data: {data['kind']} ({listed}); samples table of SHA-256 {data['sha256']}."]


def described(part):
    """Source, version and licence of something that a model started from."""
    version = f", version {part['revision']}" if part.get("revision") else ""
    return f"{part['source']}{version} (licence: {part.get('licence') or 'not known'})"


def results(config, metrics):
    """Lines on the metrics of all samples of the split, with their intervals."""
    subset = metrics["subsets"]["all"]
    lines = [
        f"Split {metrics['split']}, {subset['n']} samples; 95% intervals over clusters.",
        *("", "| metric | value | interval |", "| --- | --- | --- |"),
    ]
    for metric, found in subset.items():
        if isinstance(found, dict):
            value, low, high = (found[key] for key in ("value", "low", "high"))
            known = "" if isnan(low) else f"{low:.4g} to {high:.4g}"
            lines.append(f"| {metric} | {value:.4g} | {known} |")
    if config["threshold"] is not None:
        lines += ["", f"Label 1 is said from probability {config['threshold']:.4g} on."]
    return lines


def limits(config):
    """Sentences on what the numbers do not say."""
    lines = [
        "The results hold for data like that of the run; try it on your own before relying on it.",
        "Where samples of several groups are told apart, see the run's report for each of them.",
    ]
    if config["threshold"] is not None:
        lines.append("The threshold was chosen for the run's data, and not for other mixtures.")
    if config["start"]:
        lines.append("What it started from has licences and biases of its own.")
    return lines
