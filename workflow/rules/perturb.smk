# Tests of the explanations: perturbation curves and agreement with the ground truth.


rule perturb:
    input:
        of_explained("results/{run}/tables/perturbation_auc.csv"),
        of_explained("results/{run}/tables/perturbation_skill.csv"),
        of_explained("results/{run}/tables/localisation.csv"),
        of_explained("results/{run}/tables/method_pairs.csv"),


rule tabulate_explanations:
    input:
        samples="results/{run}/data/samples.csv",
        truth="results/{run}/data/truth.parquet",
        attributions=of_explained("results/{run}/attributions/{model}/seed{seed}.parquet"),
        perturbation=of_explained("results/{run}/perturbation/{model}/seed{seed}.parquet"),
        lib=library(
            "datasets/truth.py",
            "evaluation/paired.py",
            "evaluation/statistics.py",
            "evaluation/subsets.py",
            "explanation/missing.py",
            "perturbation/curves.py",
            "perturbation/localisation.py",
            "perturbation/method_pairs.py",
        ),
    output:
        perturbation="results/{run}/tables/perturbation_auc.csv",
        skill="results/{run}/tables/perturbation_skill.csv",
        localisation="results/{run}/tables/localisation.csv",
        missing="results/{run}/tables/not_applicable.csv",
        pairs="results/{run}/tables/method_pairs.csv",
    log:
        "results/{run}/logs/tabulate_explanations.log",
    benchmark:
        "results/{run}/benchmarks/tabulate_explanations.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
    params:
        models=explained_models(),
        seeds=EXPLAINED_SEEDS,
        scores=config["method_pairs"]["scores"],
        statistics=section("statistics"),
    script:
        "../../scripts/tabulate_explanations.py"


rule draw_perturbation_curves:
    input:
        samples="results/{run}/data/samples.csv",
        perturbation=expand(
            "results/{{run}}/perturbation/{{model}}/seed{seed}.parquet", seed=EXPLAINED_SEEDS
        ),
        lib=library(
            "evaluation/statistics.py",
            "figures/perturbation_curves.py",
            "figures/style.py",
            "perturbation/curves.py",
        ),
    output:
        svg=report(
            "results/{run}/figures/perturbation_curves/{model}.svg",
            caption="../report/perturbation_curves.rst",
            category="Explanations",
            subcategory="{model}",
            labels={"figure": "perturbation curves", "model": "{model}"},
        ),
        png="results/{run}/figures/perturbation_curves/{model}.png",
    log:
        "results/{run}/logs/draw_perturbation_curves/{model}.log",
    benchmark:
        "results/{run}/benchmarks/draw_perturbation_curves/{model}.tsv"
    conda:
        "../../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=15,
    params:
        seeds=EXPLAINED_SEEDS,
        methods=config["methods"],
        statistics=section("statistics"),
    script:
        "../../scripts/draw_perturbation_curves.py"
