# What rules are told of models, weights, data sets and extractors, and which files of theirs they
# read: functions of the wildcards. No rules here.
# Keys of section dataset that name files below its root.
NAMED_FILES = ("table", "files", "instances", "fine_grained", "questions", "annotations")
NAMED_FILES += ("lxmert", "answers", "train_annotations")


def model_samples(wildcards):
    """Samples table that a model reads: without captions if it wants none."""
    plain = not config["variants"][wildcards.model]["captions"]
    return f"results/{{run}}/{SAMPLED if plain else 'data'}/samples.csv"


def model_settings(wildcards):
    """How a model is built: its name in the registry, keyword arguments and text length."""
    variant = config["variants"][wildcards.model]
    arguments = {**config["model"], **variant["arguments"]}
    if variant["weights"] is not None:
        arguments["weights"] = weights_path(config, variant["weights"])
    if "tokenizer" in arguments:
        arguments["tokenizer"] = weights_path(config, arguments["tokenizer"])
    return ordered(
        {
            "name": variant["model"],
            "arguments": arguments,
            "max_length": variant["max_length"],
        }
    )


def weights_files(*values):
    """Files to wait for, and whose change counts, where weights are given as these values.

    Of what is downloaded that is the report, which holds the hashes of all files.
    """
    files = []
    for value in values:
        if value in config["weights"] and "path" not in config["weights"][value]:
            files.append(f"resources/weights/{value}/weights.json")
            continue
        path = Path(weights_path(config, value))
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        files += [str(file) for file in inside if file.is_file() and file.name[0] != "."]
    return files


def model_weights(wildcards):
    """What a model starts from, beside the stem: weights, a tokenizer and answers of their own."""
    variant = config["variants"][wildcards.model]
    values = (variant["weights"], *map(variant["arguments"].get, ("tokenizer", "answers")))
    return weights_files(*(value for value in values if isinstance(value, str)))


def fetched_weights():
    """Names of the entries of section weights that this run downloads."""
    entries = config["weights"]
    names = dict.fromkeys(used_weights(config).values())
    return [name for name in names if name in entries and "path" not in entries[name]]


def weights_source(wildcards):
    """An entry of section weights; what is known of a file, its own keys above what is published."""
    from mmlens.datasets.versions import known_file  # which imports what downloads need

    entry = config["weights"][wildcards.weights]
    known = known_file("weights", entry["url"]) if "url" in entry else {}
    return ordered({**{key: value for key, value in known.items() if value}, **entry})


def training_settings(wildcards):
    """Section training as it holds for one model."""
    settings = config["training_of"].get(wildcards.model, config["training"])
    # An untrained stem must not learn slowly.
    factor = settings["stem_lr_factor"] if model_stem(wildcards) else 1.0
    return ordered({**settings, "stem_lr_factor": factor})


def training_processes(wildcards):
    """Processes that train one model together, each on a core or a GPU of its own."""
    return training_settings(wildcards)["processes"]


def is_generated():
    """Whether the raw files of this run's data set are made in the run."""
    return config["dataset"]["kind"] in GENERATORS.names()


def is_downloaded():
    """Whether the raw files of this run's data set are downloaded: nobody says where they are."""
    dataset = config["dataset"]
    return "root" not in dataset and dataset["kind"] in DOWNLOADS.names()


def download_settings(wildcards):
    """Section dataset, with the folder that its files are downloaded to."""
    return ordered(
        {**config["dataset"], "root": f"resources/downloads/{config['dataset']['kind']}"}
    )


def dataset_settings(wildcards):
    """Section dataset, with the folder where its files are, without where they come from."""
    settings = download_settings(wildcards) if is_downloaded() else dict(config["dataset"])
    if is_generated():
        settings["root"] = f"results/{wildcards.run}/data/generated"
    from_where = ("accept_licence", "sources")
    return ordered({key: settings[key] for key in settings if key not in from_where})


def names_of(value):
    """The names in a setting: one, or {key: name}."""
    return list(value.values()) if isinstance(value, dict) else [value]


def dataset_files(wildcards):
    """Files that the samples table is made from, as far as the config names them."""
    settings = dataset_settings(wildcards)
    root = Path(settings["root"])
    if is_generated():
        return [str(root)]
    paths = [root / name for key in NAMED_FILES for name in names_of(settings.get(key, {}))]
    # What is downloaded lies there or not; its list is there whenever the files are.
    downloads = [f"results/{wildcards.run}/data/downloads.csv"] if is_downloaded() else []
    paths = [] if downloads else paths
    paths += [Path(settings["groups"]["table"])] if "groups" in settings else []
    paths += [BASE / "resources/vqa/answers.csv"] if settings["kind"] == "vqa" else []
    # A missing file is reported by the reader, with its key and remedy, not by Snakemake.
    return downloads + [str(path) for path in paths if path.is_file()]


def extractor_settings(wildcards):
    """Arguments of one extractor."""
    settings = dict(config["features"]["settings"].get(wildcards.extractor, {}))
    if settings.get("weights") is not None:
        settings["weights"] = weights_path(config, settings["weights"])
    if EXTRACTORS.attribute(wildcards.extractor, "stem", False):
        settings |= {"weights": stem_weights(wildcards)[0], "size": config["model"]["image_size"]}
    return ordered(settings | extractor_tables(wildcards))


def extractor_tables(wildcards):
    """Tables of the run that an extractor reads, by its arguments' names."""
    wanted = EXTRACTORS.attribute(wildcards.extractor, "truth", False)
    tables = {"samples": "samples.csv", "truth": "truth.parquet"} if wanted else {}
    return {key: f"results/{wildcards.run}/data/{name}" for key, name in tables.items()}


def extractor_weights(wildcards):
    """Weights of an extractor, or its table: those that this run makes, or its settings name."""
    if EXTRACTORS.attribute(wildcards.extractor, "stem", False):
        return stem_weights(wildcards)
    named = config["features"]["settings"].get(wildcards.extractor, {})
    values = [named[key] for key in ("weights", "table") if named.get(key) is not None]
    # What is neither is a name of the hub, which the extractor asks itself.
    return weights_files(*(v for v in values if v in config["weights"] or Path(v).exists()))


def cache_settings(wildcards):
    """Section features without what does not concern the cache."""
    names = ("batch_size", "cache", "dtype", "keep_decoded", "shard")
    return {name: config["features"][name] for name in names}


def frozen_models():
    """{model: extractor} of the run's models on frozen features."""
    features = config["features"]
    frozen = [model for model in config["models"] if is_frozen(config, model)]
    return {model: features["of"].get(model, features["extractors"][0]) for model in frozen}


def model_features(wildcards):
    """Index of the cached features that a model reads, if it is one on frozen features.

    And their facts: the index alone says which images they are of, not how they were computed.
    """
    extractor = frozen_models().get(wildcards.model)
    files = ("index.parquet", "facts.json") if extractor else ()
    return [f"results/{wildcards.run}/features/{extractor}/{name}" for name in files]


def stem_weights(wildcards):
    """Weights of the pretrained stem, where the run has one."""
    path = f"results/{wildcards.run}/features/stem/stem.safetensors"
    return [path] if needs_stem(config) else []


def model_stem(wildcards):
    """Weights of the pretrained stem for a model that starts from it."""
    return stem_weights(wildcards) if has_stem(config, wildcards.model) else []


def stem_models():
    """Models of the run that start with a convolutional stem, or read its frozen features."""
    frozen = frozen_models()
    reading = [m for m in frozen if EXTRACTORS.attribute(frozen[m], "stem", False)]
    return [m for m in config["models"] if has_stem(config, m) or m in reading]


def stem_facts(wildcards):
    """Facts about the pretraining of the stem, where the run has one."""
    return [path.replace(".safetensors", ".json") for path in stem_weights(wildcards)]


def sanity_settings():
    """Section sanity with the names of its methods; without draws of a random order to check."""
    settings = {key: config["sanity"][key] for key in config["sanity"] if key != "enabled"}
    methods = config["methods"] if settings["methods"] is None else settings["methods"]
    return ordered({**settings, "methods": [m for m in methods if m != "random"]})


def case_of(wildcards):
    """The entry of section cases of a case, by its name."""
    return ordered(next(case for case in config["cases"] if case["name"] == wildcards.case))


def case_image(wildcards):
    """Image file of a case that is no sample of the run."""
    return [image for key, image in case_of(wildcards).items() if key == "image"]


def of_case(function):
    """A function of the wildcards of a model, as one of those of a case: of the case's model."""

    def of_model(wildcards):
        return function(SimpleNamespace(run=wildcards.run, model=case_of(wildcards)["model"]))

    return of_model


def first_checkpoint(wildcards):
    """Folder of a model's checkpoint of the first seed, which cases are explained by."""
    model, seed = wildcards.model, config["seeds"][0]
    return f"results/{wildcards.run}/checkpoints/{model}/seed{seed}"


def of_extractor(function):
    """A function of the wildcards of an extractor, as one of a model: of what it reads, or []."""

    def of_model(wildcards):
        name = frozen_models().get(wildcards.model)
        return function(SimpleNamespace(run=wildcards.run, extractor=name)) if name else []

    return of_model


def model_extractor(wildcards):
    """Name and arguments of the extractor whose features a model reads; {} for one of pixels."""
    settings = of_extractor(extractor_settings)(wildcards)
    name = frozen_models().get(wildcards.model)
    return {"name": name, "settings": settings} if name else {}


def prompt_settings():
    """What of section zero_shot predictions depend on."""
    prompts = {"prompts": config["zero_shot"]["prompts"]}
    return prompts if task_of(config) == "classes" else {}


def reads_captions(wildcards):
    """Whether a model's texts hold generated captions of the images."""
    return config["captions"]["enabled"] and config["variants"][wildcards.model]["captions"]


def robustness_settings():
    """Section robustness without where its results are wanted, and the size of images."""
    return ordered({k: v for k, v in config["robustness"].items() if k not in ("enabled", "size")})


def corrupted_size():
    """Side of the squares that images are resized to before they are corrupted."""
    own = config["dataset"]["size"] if is_generated() else 224
    return config["robustness"]["size"] or own


def contrastive_models():
    """Models of the run that rank texts and images by embeddings."""
    return [m for m in config["models"] if model_attribute(config, m, "contrastive", False)]


def first_rankers():
    """{model: the contrastive model that ranks for it, "" where it ranks everything itself}."""
    contrastive = contrastive_models()
    first = config["zero_shot"]["prerank"] or next(iter(contrastive), "")
    return {model: "" if model in contrastive else first for model in config["models"]}


def first_ranking(wildcards):
    """Embeddings of the model that ranks for one which scores pairs, where there is any."""
    first = first_rankers()[wildcards.model]
    return [f"results/{wildcards.run}/ranking/{first}/seed{wildcards.seed}.npz"] if first else []


def weight_origins():
    """{model: what its weights are}, for tables that compare trained with published ones."""
    names = {}
    for model in config["models"]:
        variant = config["variants"][model]
        tuned = "fine-tuned" if variant["train"] else "pretrained"
        names[model] = "from scratch" if variant["weights"] is None else tuned
    return names


def published_tables():
    """Tables of the run that hold what published results may be compared with."""
    names = ["comparison"] + (["zero_shot", "retrieval"] if ZERO_SHOT_TABLES else [])
    names += ["perturbation_auc"] if explained_models() else []
    return of_models([f"results/{{run}}/tables/{name}.csv" for name in names])


# Published results beside those of the run, where it says which are meant.
REPRODUCTION = ["results/{run}/tables/reproduction.csv"] if config["published"]["dataset"] else []
# What the target zero_shot makes, of runs whose images are classified by names.
ZERO_SHOT_TABLES = [
    f"results/{{run}}/tables/{name}.csv"
    for name in ("zero_shot", "retrieval")
    if task_of(config) == "classes" and config["models"]
]
