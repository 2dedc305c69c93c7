"""The fixed sentences of the report."""

NOTES = {
    "comparison": (
        "Models",
        "Test split; the threshold was chosen on validation. Brackets: 95% cluster-bootstrap "
        "intervals over whole quads (images where there are no quads).",
        "comparison.csv",
    ),
    "verdicts": (
        "Explanations against random",
        "Image patches (words, in a run without images), most relevant removed first, probability "
        "of the predicted class. Better than random: the interval of the area lies wholly below "
        "that of random orders.",
        "perturbation_auc.csv",
    ),
    "perturbation": (
        "Perturbation tests",
        "Area under the curve of the predicted class's probability, times 100, mean over samples "
        "with 95% interval. Positive (most relevant removed first): lower is better. Negative "
        "(least relevant first): higher is better. Accuracy, logit, predicted classes and strata "
        "are in the file.",
        "perturbation_auc.csv",
    ),
    "localisation": (
        "Localisation",
        "Agreement with the object and the words that decide the label: does the most relevant "
        "token hit, which share of the relevance lies on them, and the area under the ROC curve "
        "of relevance as their detector. This is plausibility, not faithfulness. Read every "
        "number beside centre_prior and random.",
        "localisation.csv",
    ),
    "groups": ("Groups", "Test metrics per value of every group column.", "comparison.csv"),
    "audit": (
        "Audit of the data",
        "AUROC that a scorer can reach from the text alone, from the image alone, and from words "
        "and object counts without any binding. For the bounds of single modalities 0.5 means "
        "that the modality alone knows nothing; a text that occurs once makes them 1.",
        "audit.csv",
    ),
    "quality": (
        "Data",
        "Rows read, exact duplicates dropped (same split, image, text and label), pairs of image "
        "and text that occur with both labels, samples whose image (or text, without images) also "
        "occurs in another split, samples used. For Hateful Memes also the ids dropped because an "
        "earlier split has them, and which version of the official labels a file holds.",
        "quality.csv",
    ),
    "model_cost": (
        "Cost of models",
        "Parameters, milliseconds per sample of a forward pass in batches, and peak memory: of the "
        "GPU in these passes, on a CPU of the whole training process.",
        "model_cost.csv",
    ),
    "cost": ("Cost of jobs", "Wall and CPU seconds and peak memory of every job.", "cost.csv"),
}


def introduction(config, stem, stem_models, frozen):
    """Paragraphs on what the run is, with what a reader must know to judge its numbers.

    stem : facts of the stem's pretraining, or None; stem_models : models that start from it, or
    with an untrained one, or read its frozen features; frozen : {model: extractor it reads}
    """
    dataset = config["dataset"]["kind"]
    data = (
        "Data: generated claims about coloured shapes; label 1 means the claim is false. In the "
        "stratum easy the presence of a colour decides, in swap only which object has it."
        if dataset == "generated"
        else f"Data: {dataset} files below {config['dataset']['root']}."
    )
    models = origins(config)
    if stem_models and stem:
        models.append(
            f"{listed(stem_models)}: the convolutional stem was pretrained for {stem['steps']} "
            "steps to name the object on each 16-pixel patch of the training images "
            f"({100 * stem['accuracy']:.0f}% of covered patches named exactly right)."
        )
    elif stem_models:
        models.append(f"{listed(stem_models)}: the convolutional stem starts untrained.")
    for model, extractor in frozen.items():
        models.append(f"{model} reads the cached features of the extractor {extractor}.")
    captions = config["captions"]
    if captions["enabled"]:
        data += f" Each text is followed by a caption of its image by {captions['model']}."
    protocol = config["perturbation"]["protocol"]
    surroundings = (
        "; a patch's features also carry some of its surroundings, because the stem's receptive "
        "field is 62 pixels."
        if stem_models
        else "."
    )
    return [
        data,
        " ".join(models),
        f"Explanations are of the predicted class, on {config['explain']['samples']} samples of "
        f"the split {config['explain']['split']}. Perturbation removes patches or words at the "
        f"input of the transformer layers (protocol {protocol}){surroundings}",
    ]


def origins(config):
    """Sentences on what the models started from and whether they were trained, one per kind."""
    variants = {model: config["variants"][model] for model in config["models"]}
    scratch = [model for model, variant in variants.items() if variant["weights"] is None]
    tuned = [model for model in variants if model not in scratch and variants[model]["train"]]
    used = [model for model in variants if model not in (*scratch, *tuned)]
    source = {model: start_of(config, variants[model]["weights"]) for model in (*tuned, *used)}
    sentences = []
    if scratch:
        sentences.append(f"Trained from scratch in this run, on its data alone: {listed(scratch)}.")
    if tuned:
        from_what = "; ".join(f"{model} from {source[model]}" for model in tuned)
        sentences.append(f"Trained further in this run: {from_what}.")
    if used:
        with_what = "; ".join(f"{model} with {source[model]}" for model in used)
        sentences.append(f"Not trained in this run, but used as the weights are: {with_what}.")
    return sentences


def start_of(config, weights):
    """Where weights are from, given by the name of an entry of section weights or a path."""
    entry = config["weights"].get(weights, {"path": weights})
    version = f" at {entry['revision']}" if "revision" in entry else ""
    return next(entry[key] for key in ("hub", "url", "path") if key in entry) + version


def listed(names):
    """Names with commas between them."""
    return ", ".join(names)


def explanation_findings(verdicts, modality="image"):
    """Sentences on which methods beat a random order, per model and seed, and why others do not.

    modality : whose tokens the verdicts are about
    """
    sentences = []
    for (model, seed), rows in verdicts.groupby(["model", "seed"], sort=False):
        better = rows.loc[rows["verdict"] == "better than random", "method"].tolist()
        sentences.append(
            f"{model}, seed {seed}, {modality}: better than random orders are "
            f"{', '.join(better) or 'none'} of {len(rows)} methods."
        )
        for row in rows[rows["verdict"] != "better than random"].itertuples():
            why = f"{row.method} {row.verdict}: {row.why}"
            sentences.append(f"{model}, seed {seed}, {modality}: {why}.")
    return sentences
