# Metrics with intervals, and the figures drawn from predictions.


rule evaluate:
    input:
        of_run("results/{run}/metrics/{model}/seed{seed}.json"),
        of_run("results/{run}/tables/comparison.csv"),


rule evaluate_models:
    output:
        metrics=of_run("results/{{run}}/metrics/{model}/seed{seed}.json", run=None),
        comparison="results/{run}/tables/comparison.csv",
    input:
        samples="results/{run}/data/samples.csv",
        predictions=of_run("results/{run}/predictions/{model}/seed{seed}.parquet"),
        lib=library("evaluation"),
    params:
        models=config["models"],
        seeds=config["seeds"],
        statistics=section("statistics"),
    log:
        "results/{run}/logs/evaluate_models.log",
    benchmark:
        "results/{run}/benchmarks/evaluate_models.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    conda:
        "../../envs/data.yaml"
    script:
        "../../scripts/evaluate_models.py"


rule draw_training_curves:
    output:
        svg=report(
            "results/{run}/figures/training_curves/all_models.svg",
            caption="../report/training_curves.rst",
            category="Models",
            labels={"figure": "training curves", "model": "all"},
        ),
        png="results/{run}/figures/training_curves/all_models.png",
    input:
        history=of_run("results/{run}/checkpoints/{model}/seed{seed}/history.csv"),
        lib=library("figures"),
    params:
        models=config["models"],
        seeds=config["seeds"],
    log:
        "results/{run}/logs/draw_training_curves.log",
    benchmark:
        "results/{run}/benchmarks/draw_training_curves.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=15,
    conda:
        "../../envs/plot.yaml"
    script:
        "../../scripts/draw_training_curves.py"


rule draw_roc_curves:
    output:
        svg=report(
            "results/{run}/figures/roc_curves/all_models.svg",
            caption="../report/roc_curves.rst",
            category="Models",
            labels={"figure": "ROC curves", "model": "all"},
        ),
        png="results/{run}/figures/roc_curves/all_models.png",
    input:
        samples="results/{run}/data/samples.csv",
        predictions=of_run("results/{run}/predictions/{model}/seed{seed}.parquet"),
        lib=library("figures"),
    params:
        models=config["models"],
        seeds=config["seeds"],
    log:
        "results/{run}/logs/draw_roc_curves.log",
    benchmark:
        "results/{run}/benchmarks/draw_roc_curves.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=15,
    conda:
        "../../envs/plot.yaml"
    script:
        "../../scripts/draw_roc_curves.py"


rule draw_confusion_matrices:
    output:
        svg=report(
            "results/{run}/figures/confusion_matrices/all_models.svg",
            caption="../report/confusion_matrices.rst",
            category="Models",
            labels={"figure": "confusion matrices", "model": "all"},
        ),
        png="results/{run}/figures/confusion_matrices/all_models.png",
    input:
        predictions=of_run("results/{run}/predictions/{model}/seed{seed}.parquet"),
        lib=library("figures"),
    params:
        models=config["models"],
        seeds=config["seeds"],
    log:
        "results/{run}/logs/draw_confusion_matrices.log",
    benchmark:
        "results/{run}/benchmarks/draw_confusion_matrices.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=15,
    conda:
        "../../envs/plot.yaml"
    script:
        "../../scripts/draw_confusion_matrices.py"
