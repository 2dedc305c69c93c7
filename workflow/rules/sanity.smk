# Sanity checks of the explanations, and what a decision owes to each modality.


rule sanity:
    input:
        of_explained("results/{run}/tables/sanity.csv"),
        sanity_figures(),


rule check_explanations:
    input:
        samples=model_samples,
        tokenizer="results/{run}/data/tokenizer.json",
        classes="results/{run}/data/classes.csv",
        start=model_weights,
        weights="results/{run}/checkpoints/{model}/seed{seed}/model.safetensors",
        predictions="results/{run}/predictions/{model}/seed{seed}.parquet",
        features=model_features,
        lib=sanity_library,
    output:
        "results/{run}/sanity/{model}/seed{seed}.parquet",
    log:
        "results/{run}/logs/check_explanations/{model}/seed{seed}.log",
    benchmark:
        "results/{run}/benchmarks/check_explanations/{model}/seed{seed}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=3000,
        runtime=60,
    params:
        explain=explain_settings(),
        sanity=sanity_settings(),
        batch_size=config["perturbation"]["batch_size"],
        model=model_settings,
        device=config["device"],
        torch_threads=config["torch_threads"],
    script:
        "../../scripts/check_explanations.py"


rule tabulate_sanity:
    input:
        samples="results/{run}/data/samples.csv",
        records=of_explained("results/{run}/sanity/{model}/seed{seed}.parquet"),
        lib=library("evaluation/statistics.py", "perturbation/sanity_table.py"),
    output:
        "results/{run}/tables/sanity.csv",
    log:
        "results/{run}/logs/tabulate_sanity.log",
    benchmark:
        "results/{run}/benchmarks/tabulate_sanity.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        models=explained_models(),
        seeds=EXPLAINED_SEEDS,
        statistics=section("statistics"),
    script:
        "../../scripts/tabulate_sanity.py"


rule draw_sanity:
    input:
        samples="results/{run}/data/samples.csv",
        records=expand("results/{{run}}/sanity/{{model}}/seed{seed}.parquet", seed=EXPLAINED_SEEDS),
        lib=library(
            "evaluation/statistics.py",
            "figures/sanity.py",
            "figures/style.py",
            "perturbation/sanity_table.py",
        ),
    output:
        svg=report(
            "results/{run}/figures/sanity/{model}.svg",
            caption="../report/sanity.rst",
            category="Explanations",
            subcategory="{model}",
            labels={"figure": "sanity checks", "model": "{model}"},
        ),
        png="results/{run}/figures/sanity/{model}.png",
    log:
        "results/{run}/logs/draw_sanity/{model}.log",
    benchmark:
        "results/{run}/benchmarks/draw_sanity/{model}.tsv"
    conda:
        "../../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=15,
    params:
        seeds=EXPLAINED_SEEDS,
        statistics=section("statistics"),
    script:
        "../../scripts/draw_sanity.py"
