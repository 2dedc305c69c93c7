# What a rule's results depend on beside its data: files of the library. No rules here.
import ast


def library(*parts):
    """Library files that a rule's results depend on.

    parts : packages or modules of mmlens, such as "evaluation" or "models/base.py"; the modules
        that everything uses are always there. A rule names no more than it needs, so that an
        edit, or a new model, reruns only what it can change.
    """
    root = BASE / "scripts/mmlens"
    files = [root / f"{name}.py" for name in ("files", "metrics", "registry", "table")]
    for part in parts:
        files += [root / part] if part.endswith(".py") else (root / part).glob("*.py")
    return sorted({str(path) for path in files})


def implementations(registry, names):
    """Library modules that register these names, for `library`."""
    modules = {tuple(registry.declared[name][0].split(".")[1:]) for name in names}
    return [Path(*module).with_suffix(".py").as_posix() for module in modules]


def with_imports(module):
    """A library module and all those that it imports, directly or not."""
    root, found, waiting = BASE / "scripts/mmlens", set(), [Path(module)]
    while waiting:
        found.add(current := waiting.pop())
        for node in ast.walk(ast.parse((root / current).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                package = [current, *current.parents][node.level]
                imported = package.joinpath(*(node.module or "__init__").split("."))
                folder = (root / imported).is_dir()
                path = imported / "__init__.py" if folder else imported.with_suffix(".py")
                waiting += {path} - found
    return {path.as_posix() for path in found}


def torch_library(models, *parts):
    """`library` of a job that computes with these models."""
    base = ["device.py", "weights.py"]
    base += [f"datasets/{name}.py" for name in ("answers", "images", "vocabulary")]
    base += [f"features/{name}.py" for name in ("__init__", "base", "normalise")]
    if any(is_frozen(config, model) for model in models):
        base += [f"features/{name}.py" for name in ("reader", "store")]
    architectures = {config["variants"][model]["model"] for model in models}
    modules = implementations(MODELS, sorted(architectures))
    return library(*base, *(part for module in modules for part in with_imports(module)), *parts)


def generation_library():
    """`library` of what writes a generated data set; nothing of a run that reads another one."""
    modules = implementations(GENERATORS, [config["dataset"]["kind"]] if is_generated() else [])
    return library(*(part for module in modules for part in with_imports(module)))


def reading_library():
    """`library` of the samples table: the reader of this kind of data, and what checks it."""
    # The generated data is read by the reader of the format it is written in.
    (reader,) = implementations(DATASETS, [config["dataset"]["kind"]])
    readers = with_imports(reader)
    shared = ["answers", "images", "reading", "records", "samples", "truth", "vocabulary"]
    return library(*readers, *(f"datasets/{name}.py" for name in shared))


def download_library():
    """`library` of the downloads of this kind of data: what fetches it and what reads its lists."""
    modules = implementations(DATASETS, [config["dataset"]["kind"]])
    modules += implementations(DOWNLOADS, [config["dataset"]["kind"]]) if is_downloaded() else []
    return library(*modules, "datasets/records.py", "datasets/versions.py", "download")


def training_library(wildcards):
    return torch_library([wildcards.model], "training")


def export_library(wildcards):
    return torch_library([wildcards.model], "report/card.py")


def explanation_library(wildcards):
    engine = with_imports("explanation/explain.py") | with_imports("explanation/trained.py")
    methods = (with_imports(method) for method in implementations(METHODS, config["methods"]))
    operators = implementations(OPERATORS, config["perturbation"]["operators"])
    perturbation = map(with_imports, ("perturbation/blocks.py", *operators))
    return torch_library([wildcards.model], *engine, *set().union(*methods, *perturbation))


def case_library(wildcards):
    methods = {method for case in config["cases"] for method in case["methods"]}
    parts = ["cases.py", *implementations(METHODS, sorted(methods))]
    return torch_library([wildcards.model], *set().union(*map(with_imports, parts)))


def sanity_library(wildcards):
    methods = implementations(METHODS, sanity_settings()["methods"])
    parts = [with_imports(method) for method in methods]
    parts += [with_imports(f"explanation/{name}.py") for name in ("explain", "trained")]
    parts += [with_imports(f"perturbation/{name}.py") for name in ("modality", "sanity")]
    return torch_library([wildcards.model], *set().union(*parts))


def diagnostics_library(wildcards):
    modules = ("diagnostics/records.py", "explanation/explain.py", "explanation/trained.py")
    return torch_library([wildcards.model], *set().union(*map(with_imports, modules)))


def ranking_library(wildcards):
    modules = ("explanation/trained.py", "perturbation/randomisation.py", "ranking/scores.py")
    return torch_library([wildcards.model], *set().union(*map(with_imports, modules)))


def robustness_library(wildcards):
    parts = [*implementations(CORRUPTIONS, config["robustness"]["corruptions"])]
    parts += [f"robustness/{name}.py" for name in ("corrupted", "records")]
    parts += ["explanation/explain.py", "explanation/trained.py"]
    extractor = frozen_models().get(wildcards.model)
    parts += implementations(EXTRACTORS, [extractor] if extractor else [])
    return torch_library([wildcards.model], *set().union(*map(with_imports, map(str, parts))))


def extractor_library(*extractors):
    """`library` of a job that extracts features: all of features/ but the other extractors."""
    shared = ["device.py", "weights.py", "datasets/images.py", "datasets/vocabulary.py"]
    shared += ["models/inputs.py", "models/layers.py"]
    others = set(EXTRACTORS.names()) - set(extractors)
    skipped = set(implementations(EXTRACTORS, others)) - set(
        implementations(EXTRACTORS, extractors)
    )
    root = BASE / "scripts/mmlens"
    return sorted(set(library(*shared, "features")) - {str(root / name) for name in skipped})
