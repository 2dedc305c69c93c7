# Figures as a whole, costs, and the comparison report.

# Of all models together; some have a meaning for two labels only.
OVERVIEWS = ["training_curves"] if trained_models() else []
OVERVIEWS += ["roc_curves", "confusion_matrices"] if task_of(config) == "binary" else []
FIGURES = [
    *(
        path
        for name in OVERVIEWS
        for path in of_models(f"results/{{run}}/figures/{name}/all_models.svg")
    ),
    *of_models([f"results/{{run}}/figures/{kind}/all_models.svg" for kind in ASSESSED_FIGURES]),
    *if_enabled("robustness", of_models("results/{run}/figures/robustness/all_models.svg")),
    *of_explained("results/{run}/figures/attributions/{model}.svg"),
    *of_explained("results/{run}/figures/perturbation_curves/{model}.svg"),
    *if_enabled("sanity", sanity_figures()),
    *if_enabled("diagnostics", of_diagnosed(*DIAGNOSED_FIGURES)),
]

# Tables beside the comparison.
EXPLANATION_TABLES = ("perturbation_auc", "perturbation_skill", "localisation", "method_pairs")
EXPLANATION_TABLES += ("not_applicable",)
EVALUATION_TABLES = [
    *of_models([*ASSESSED_TABLES, *REPRODUCTION, *ZERO_SHOT_TABLES]),
    *if_enabled("robustness", of_models("results/{run}/tables/robustness.csv")),
]
TABLES = [
    *(f"results/{{run}}/tables/{name}.csv" for name in ("audit", "quality", "cost", "model_cost")),
    *EVALUATION_TABLES,
    *of_explained(*(f"results/{{run}}/tables/{name}.csv" for name in EXPLANATION_TABLES)),
    *if_enabled("sanity", of_explained("results/{run}/tables/sanity.csv")),
    *if_enabled("diagnostics", of_diagnosed(*DIAGNOSED_TABLES)),
]


rule figures:
    input:
        FIGURES,


rule summary:
    input:
        of_models("results/{run}/report/index.html"),


rule measure_cost:
    input:
        benchmarks=benchmark_files,
        models=of_run("results/{run}/checkpoints/{model}/seed{seed}/cost.json"),
        lib=library("report"),
    # Collects the benchmark files of every job that the report depends on.
    output:
        jobs="results/{run}/tables/cost.csv",
        models="results/{run}/tables/model_cost.csv",
    log:
        "results/{run}/logs/measure_cost.log",
    benchmark:
        "results/{run}/benchmarks/measure_cost.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    script:
        "../../scripts/measure_cost.py"


rule write_report:
    input:
        comparison="results/{run}/tables/comparison.csv",
        evaluation=EVALUATION_TABLES,
        perturbation=of_explained("results/{run}/tables/perturbation_auc.csv"),
        localisation=of_explained("results/{run}/tables/localisation.csv"),
        missing=of_explained("results/{run}/tables/not_applicable.csv"),
        pairs=of_explained("results/{run}/tables/method_pairs.csv"),
        sanity=if_enabled("sanity", of_explained("results/{run}/tables/sanity.csv")),
        diagnostics=if_enabled("diagnostics", of_diagnosed(*DIAGNOSED_TABLES)),
        audit="results/{run}/tables/audit.csv",
        quality="results/{run}/tables/quality.csv",
        cost="results/{run}/tables/cost.csv",
        model_cost="results/{run}/tables/model_cost.csv",
        figures=[Path(path).with_suffix(".png").as_posix() for path in FIGURES],
        stem=stem_facts,
        lib=library("report", "evaluation/gaps.py", "evaluation/paired.py"),
        template=str(BASE / "scripts/mmlens/report/page.html.j2"),
    output:
        html=report(
            "results/{run}/report/index.html",
            caption="../report/comparison.rst",
            category="Report",
            labels={"figure": "comparison report", "model": "all"},
        ),
        markdown="results/{run}/report/report.md",
    log:
        "results/{run}/logs/write_report.log",
    benchmark:
        "results/{run}/benchmarks/write_report.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        config=untracked_config(),
        task=task_of(config),
        frozen=frozen_models(),
        stem_models=stem_models(),
    script:
        "../../scripts/write_report.py"
