# Tests of the explanations: perturbation curves and agreement with the ground truth.


rule perturb:
    input:
        of_run("results/{run}/tables/perturbation_auc.csv"),
        of_run("results/{run}/tables/localisation.csv"),


rule tabulate_explanations:
    output:
        perturbation="results/{run}/tables/perturbation_auc.csv",
        localisation="results/{run}/tables/localisation.csv",
    input:
        samples="results/{run}/data/samples.csv",
        truth="results/{run}/data/truth.parquet",
        attributions=of_run("results/{run}/attributions/{model}/seed{seed}.parquet"),
        perturbation=of_run("results/{run}/perturbation/{model}/seed{seed}.parquet"),
        lib=library("evaluation", "perturbation"),
    params:
        models=config["models"],
        seeds=config["seeds"],
        statistics=section("statistics"),
    log:
        "results/{run}/logs/tabulate_explanations.log",
    benchmark:
        "results/{run}/benchmarks/tabulate_explanations.tsv"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
    conda:
        "../../envs/data.yaml"
    script:
        "../../scripts/tabulate_explanations.py"


rule draw_perturbation_curves:
    output:
        svg=report(
            "results/{run}/figures/perturbation_curves/{model}.svg",
            caption="../report/perturbation_curves.rst",
            category="Explanations",
            subcategory="{model}",
            labels={"figure": "perturbation curves", "model": "{model}"},
        ),
        png="results/{run}/figures/perturbation_curves/{model}.png",
    input:
        samples="results/{run}/data/samples.csv",
        perturbation=expand(
            "results/{{run}}/perturbation/{{model}}/seed{seed}.parquet", seed=config["seeds"]
        ),
        lib=library("evaluation", "figures"),
    params:
        seeds=config["seeds"],
        methods=config["methods"],
        statistics=section("statistics"),
    log:
        "results/{run}/logs/draw_perturbation_curves/{model}.log",
    benchmark:
        "results/{run}/benchmarks/draw_perturbation_curves/{model}.tsv"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=15,
    conda:
        "../../envs/plot.yaml"
    script:
        "../../scripts/draw_perturbation_curves.py"
