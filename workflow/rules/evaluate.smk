# Metrics with intervals, and the figures drawn from predictions.


rule evaluate:
    input:
        of_run("results/{run}/metrics/{model}/seed{seed}.json"),
        of_models("results/{run}/tables/comparison.csv"),


rule evaluate_models:
    input:
        samples="results/{run}/data/samples.csv",
        classes="results/{run}/data/classes.csv",
        predictions=of_run("results/{run}/predictions/{model}/seed{seed}.parquet"),
        lib=library("evaluation", "datasets/answers.py"),
    output:
        metrics=of_run("results/{run}/metrics/{model}/seed{seed}.json", run="{run}"),
        comparison="results/{run}/tables/comparison.csv",
    log:
        "results/{run}/logs/evaluate_models.log",
    benchmark:
        "results/{run}/benchmarks/evaluate_models.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        models=config["models"],
        seeds=config["seeds"],
        any_present=config["dataset"].get("label") == "any",
        statistics=section("statistics"),
    script:
        "../../scripts/evaluate_models.py"


rule draw_training_curves:
    input:
        history=of_run(
            "results/{run}/checkpoints/{model}/seed{seed}/history.csv", model=trained_models()
        ),
        lib=library("figures/style.py", "figures/training_curves.py"),
    output:
        svg=report(
            "results/{run}/figures/training_curves/all_models.svg",
            caption="../report/training_curves.rst",
            category="Models",
            labels={"figure": "training curves", "model": "all"},
        ),
        png="results/{run}/figures/training_curves/all_models.png",
    log:
        "results/{run}/logs/draw_training_curves.log",
    benchmark:
        "results/{run}/benchmarks/draw_training_curves.tsv"
    conda:
        "../../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=15,
    params:
        models=trained_models(),
        seeds=config["seeds"],
    script:
        "../../scripts/draw_training_curves.py"


rule draw_roc_curves:
    input:
        samples="results/{run}/data/samples.csv",
        predictions=of_run("results/{run}/predictions/{model}/seed{seed}.parquet"),
        lib=library("figures/style.py", "figures/roc_curves.py"),
    output:
        svg=report(
            "results/{run}/figures/roc_curves/all_models.svg",
            caption="../report/roc_curves.rst",
            category="Models",
            labels={"figure": "ROC curves", "model": "all"},
        ),
        png="results/{run}/figures/roc_curves/all_models.png",
    log:
        "results/{run}/logs/draw_roc_curves.log",
    benchmark:
        "results/{run}/benchmarks/draw_roc_curves.tsv"
    conda:
        "../../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=15,
    params:
        models=config["models"],
        seeds=config["seeds"],
    script:
        "../../scripts/draw_roc_curves.py"


rule draw_confusion_matrices:
    input:
        predictions=of_run("results/{run}/predictions/{model}/seed{seed}.parquet"),
        lib=library("figures/style.py", "figures/confusion_matrices.py"),
    output:
        svg=report(
            "results/{run}/figures/confusion_matrices/all_models.svg",
            caption="../report/confusion_matrices.rst",
            category="Models",
            labels={"figure": "confusion matrices", "model": "all"},
        ),
        png="results/{run}/figures/confusion_matrices/all_models.png",
    log:
        "results/{run}/logs/draw_confusion_matrices.log",
    benchmark:
        "results/{run}/benchmarks/draw_confusion_matrices.tsv"
    conda:
        "../../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=15,
    params:
        models=config["models"],
        seeds=config["seeds"],
    script:
        "../../scripts/draw_confusion_matrices.py"
