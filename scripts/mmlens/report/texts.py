"""The fixed sentences of the report."""

NOTES = {
    "comparison": (
        "Models",
        "Test split; for two labels the threshold was chosen on validation. Brackets: 95% "
        "intervals over whole quads (images where there are no quads).",
        "comparison.csv",
    ),
    "model_pairs": (
        "Model against model",
        "A minus B on the same test samples, with 95% interval; of two labels areas under the ROC "
        "curve by DeLong's test over whole quads (images), else accuracies by sign flips of whole "
        "quads (images); p after Holm over all pairs of a seed. McNemar's test is in the file.",
        "model_pairs.csv",
    ),
    "seeds": (
        "Training seeds",
        "Mean and standard deviation over training seeds, of test metrics on all samples. From 3 "
        "seeds up the file has intervals that resample seeds and quads (images).",
        "seeds.csv",
    ),
    "zero_shot": (
        "Zero-shot classification",
        "Test images by the names of the classes. Rule largest: only the class of the largest "
        "object is right; rule any: each class that the image shows is. map: mean over classes of "
        "the average precision; similarity: of an image with the prompt of its class. Controls: "
        "labels of other images, and the network with its weights in random order. Shuffled: what "
        "the same rankings get in the mean over all orders of the labels, which a control should "
        "hold. Single classes are in the file.",
        "zero_shot.csv",
    ),
    "retrieval": (
        "Retrieval",
        "Recall at 1, 5 and 10 among all captions (images) of the test split: whether the first k "
        "hold one that belongs to the image (caption). Controls as for classes.",
        "retrieval.csv",
    ),
    "vqa": (
        "Answers by type",
        "VQA accuracy on test by type of question and answer; the control answers other questions "
        "with the model's answers.",
        "vqa.csv",
    ),
    "robustness": (
        "Robustness",
        "Metric under corruptions of rising severity, and the drop at the worst with a paired 95% "
        "interval. Images are corrupted after they are resized to one square, before a model's own "
        "preprocessing; clean is such an image as it is. Accuracy, error and similarity are in the "
        "file.",
        "robustness.csv",
    ),
    "corruption_errors": (
        "Corruption errors",
        "Mean over corruptions of the mean error over their severities; relative: minus the error "
        "on clean samples.",
        "robustness.csv",
    ),
    "gaps": (
        "Gaps between groups",
        "Best minus worst group on test, with an interval that holds for all pairs of groups at "
        "once (max-t bootstrap over quads or images). Shuffled groups: what chance gives, mean and "
        "middle 95% of deals of the groups to the samples, and the share p_shuffled of deals with "
        "a gap as wide. A gap counts where its interval leaves out 0 and p_shuffled is below .05. "
        "Every group, and areas across groups, are in fairness.csv.",
        "fairness_gaps.csv",
    ),
    "calibration": (
        "Calibration",
        "Expected calibration error on test (15 bins) as predicted, and after one temperature that "
        "was fitted on validation, beside what it would be on average if outcomes came true with "
        "just these confidences. The drop is the error before minus that after, with a paired "
        "interval: scaling lowered it where that lies above 0. nll in nats.",
        "calibration.csv",
    ),
    "confounders": (
        "Confounder accuracy",
        "Share of images, texts or quads with several labels of which every sample is right. Who "
        "reads the text alone is right about no text and no quad, who reads the image alone about "
        "no image and no quad. Chance: what independent guesses get that are right as often.",
        "confounders.csv",
    ),
    "checks": (
        "Checks",
        "Of predictions, over all models and seeds, and of the splits.",
        "checks.csv",
    ),
    "reproduction": (
        "Published results",
        "Beside what this run measured for the model that stands for the published one; empty "
        "where it has none. Samples, weights and protocol may differ.",
        "reproduction.csv",
    ),
    "verdicts": (
        "Explanations against random",
        "Image tokens (patches or regions; words, in a run without images), most relevant removed "
        "first, probability of the predicted class: mean areas of the method and of random orders, "
        "and their difference, mean over samples, with BCa 95% interval; p by sign flips of whole "
        "quads (images), after Holm over all pairs of methods and both modalities.",
        "method_pairs.csv",
    ),
    "pairs": (
        "The best method against the others",
        "Image tokens (words, in a run without images), most relevant removed first, probability "
        "of the predicted class. Best: of the lowest mean AUC. Difference: the best minus the "
        "other, mean over samples, with BCa 95% interval; p by sign flips of whole quads (images), "
        "after Holm over all pairs of methods and both modalities. All pairs are in the file.",
        "method_pairs.csv",
    ),
    "perturbation": (
        "Perturbation tests",
        "Area under the curve of the predicted class's probability, times 100, mean over samples "
        "with 95% interval. Positive (most relevant removed first): lower is better. Negative "
        "(least relevant first): higher is better. Other operators, insertion, accuracy, logit, "
        "predicted classes and strata are in the file; negative minus positive and the skill "
        "against random orders in perturbation_skill.csv.",
        "perturbation_auc.csv",
    ),
    "localisation": (
        "Localisation",
        "Agreement with the object and the words that decide the label: does the most relevant "
        "token hit, which share of the relevance lies on them, which share of them is found among "
        "as many most relevant tokens (rank), and the area under the ROC curve of relevance as "
        "their detector. This is plausibility, not faithfulness. Read every number beside "
        "centre_prior and random.",
        "localisation.csv",
    ),
    "not_applicable": (
        "Not applicable",
        "Methods that cannot apply to a model, and why: they have no rows for it in any table.",
        "not_applicable.csv",
    ),
    "sanity": (
        "Sanity checks of explanations",
        "Rank correlation of a map with the map of the same sample (means with 95% interval): "
        "random, with all parameters of the model in random order (near 0 for a method that "
        "explains the model; absolute values); other class, for the other or second class (1 for "
        "methods that know no class); noise, with small noise on the image (near 1 for a stable "
        "method). Undefined: maps that are constant, which are left out of the means. Single "
        "blocks and other measures are in the file.",
        "sanity.csv",
    ),
    "modality": (
        "Modalities of decisions",
        "Share of the text in the decision by Shapley values of the two modalities, and what the "
        "model gains over its additive projection (EMAP), which knows no interaction of text and "
        "image: the maps of a modality that a model ignores explain nothing.",
        "sanity.csv",
    ),
    "entropy": (
        "Attention entropy",
        "Entropy of what a query reads over the logarithm of the number of its keys, mean over "
        "queries and heads, per layer: 0 for all on one token, 1 for the same on every token. "
        "Control: the same network with its weights in random order. Single heads and outcomes are "
        "in the file.",
        "attention_entropy.csv",
    ),
    "cross_modal": (
        "Cross-modal attention",
        "Share of the attention of words, image tokens and the readout token that lies on the "
        "other modality, mean over heads, per layer. Of maps between two streams it is 1, and of "
        "those within one 0, by construction. Control: the same network with its weights in random "
        "order.",
        "cross_modal_attention.csv",
    ),
    "lens": (
        "Logit lens",
        "Share of decisions like the model's, had it ended after a layer, by its own last norm and "
        "head. Readout own: what the classifier reads; text, image: the mean over words or image "
        "tokens in its place.",
        "logit_lens.csv",
    ),
    "depth": (
        "Decision depth",
        "The first layer from which on the decision of the logit lens stays that of the model, "
        "mean over samples. Never: samples whose last layer decides otherwise, which happens where "
        "the readout is not the model's own.",
        "decision_depth.csv",
    ),
    "groups": ("Groups", "Test metrics per value of every group column.", "comparison.csv"),
    "audit": (
        "Audit of the data",
        "AUROC (for answers, accuracy) that can be reached from the text alone, from the image "
        "alone, and from words and object counts without any binding. For the bounds of single "
        "modalities an AUROC of 0.5 means that the modality alone knows nothing; a text that "
        "occurs once makes them 1.",
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

# By kind of data set.
GENERATED = {
    "generated": (
        "Data: generated claims about coloured shapes; label 1 means the claim is false. In the "
        "stratum easy the presence of a colour decides, in swap only which object has it."
    ),
    "generated_questions": (
        "Data: generated questions about coloured shapes, each about two images that exchange the "
        "colours of two objects; so only which object has which colour decides. The strata are "
        "what is asked for, a colour or a shape."
    ),
    "generated_captions": (
        "Data: generated images of one to three coloured shapes. A caption names all of them in a "
        "random order, so it does not tell which one is the largest, whose category is the label."
    ),
}


def introduction(config, stem, stem_models, frozen, explained):
    """Paragraphs on what the run is, with what a reader must know to judge its numbers.

    stem : facts of the stem's pretraining, or None; stem_models : models that start from it, or
    with an untrained one, or read its frozen features; frozen : {model: extractor it reads};
    explained : number of samples whose decisions are explained, 0 for none
    """
    dataset = config["dataset"]["kind"]
    data = (
        GENERATED[dataset]
        if dataset in GENERATED
        else f"Data: {dataset} files below {config['dataset']['root']}."
    )
    if config["dataset"].get("bias"):
        data += (
            f" A bias is planted: in training, the colour that is claimed of a "
            f"{config['dataset']['bias']} tells the label."
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
    for extractor, readers in grouped(frozen).items():
        models.append(
            f"Cached features of the extractor {extractor} are read by {listed(readers)}."
        )
    captions = config["captions"]
    if captions["enabled"]:
        readers = [model for model in config["models"] if config["variants"][model]["captions"]]
        models.append(
            f"Each text followed by a caption of its image, by {captions['model']}, is read by "
            f"{listed(readers) or 'none'}."
        )
    paragraphs = [data, " ".join(models)]
    return paragraphs + ([explanations(config, stem_models, explained)] if explained else [])


def explanations(config, stem_models, explained):
    """What is explained and how it is tested; stem_models, explained as in `introduction`."""
    surroundings = (
        "; a patch's features also carry some of its surroundings, because the stem's receptive "
        "field is 62 pixels."
        if stem_models
        else "."
    )
    operators = config["perturbation"]["operators"]
    place = " at the input of the transformer layers"
    how = place if operators == ["token_drop"] else f" by the operators {listed(operators)}"
    seeds = config["seeds"][: config["explain"]["seeds"]]
    some = len(seeds) < len(config["seeds"])
    word = "seed" if len(seeds) == 1 else "seeds"
    whose = f", by the models of {word} {listed(map(str, seeds))}" if some else ""
    return (
        f"Explanations are of the predicted class, on {explained} samples of the split "
        f"{config['explain']['split']}{whose}. Perturbation removes image tokens (patches or "
        f"regions) or words{how} (protocol {config['perturbation']['protocol']}){surroundings}"
    )


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
        sentences.append(f"Trained further in this run: {by_source(tuned, source)}.")
    if used:
        used_as = by_source(used, source)
        sentences.append(f"Not trained in this run, but used as the weights are: {used_as}.")
    return sentences


def by_source(models, source):
    """Models with what they started from, one part per source."""
    parts = grouped({model: source[model] for model in models})
    return "; ".join(f"{listed(names)} (weights: {place})" for place, names in parts.items())


def grouped(values):
    """{value: names that have it} of {name: value}, both in order of appearance."""
    groups = {}
    for name, value in values.items():
        groups.setdefault(value, []).append(name)
    return groups


def start_of(config, weights):
    """Where weights are from, given by the name of an entry of section weights or a path."""
    entry = config["weights"].get(weights, {"path": weights})
    version = f" at {entry['revision']}" if "revision" in entry else ""
    published = next((entry[key] + version for key in ("hub", "url") if key in entry), None)
    if "path" not in entry:
        return published
    return entry["path"] + (f" in place of {published}" if published else "")


def listed(names):
    """Names with commas between them."""
    return ", ".join(names)


WORDS = {
    "worse than random": "worse than random orders are",
    "not separable": "not separable from random orders are",
}


def explanation_findings(verdicts, modality="image"):
    """Sentences on which methods beat a random order, per model and seed, and why others do not.

    modality : whose tokens the verdicts are about
    """
    sentences = []
    for (model, seed), rows in verdicts.groupby(["model", "seed"], sort=False):
        better = rows.loc[rows["verdict"] == "better than random", "method"].tolist()
        sentences.append(
            f"{model}, seed {seed}, {modality}: better than random orders are "
            f"{listed(better) or 'none'} of {len(rows)} methods."
        )
        others = rows[rows["verdict"] != "better than random"]
        for verdict, alike in others.groupby("verdict", sort=False):
            reasons = [
                f"{listed(named['method'])} ({why})"
                for why, named in alike.groupby("why", sort=False)
            ]
            sentences.append(
                f"{model}, seed {seed}, {modality}: {WORDS[verdict]} {'; '.join(reasons)}."
            )
    return sentences
