# What predictions tell beside their metrics: pairs of models, seeds, fairness, calibration,
# confounders, checks, answers by type; and published results beside those of the run.

ASSESSED = {
    "pairs": "model_pairs",
    "seeds": "seeds",
    "groups": "fairness",
    "gaps": "fairness_gaps",
    "checks": "checks",
}
if task_of(config) != "classes":
    ASSESSED |= {"confounders": "confounders"}
    ASSESSED |= {"calibration": "calibration", "bins": "reliability"}
if task_of(config) == "answers":
    ASSESSED["types"] = "vqa"
ASSESSED_TABLES = [f"results/{{run}}/tables/{name}.csv" for name in ASSESSED.values()]
# Of classes there is no reliability to draw.
ASSESSED_FIGURES = ["fairness"] + (["reliability"] if "bins" in ASSESSED else [])


rule assess:
    input:
        of_models([*ASSESSED_TABLES, *REPRODUCTION]),
        of_models([f"results/{{run}}/figures/{kind}/all_models.svg" for kind in ASSESSED_FIGURES]),


rule assess_models:
    input:
        samples="results/{run}/data/samples.csv",
        images="results/{run}/data/images.csv",
        classes="results/{run}/data/classes.csv",
        predictions=of_run("results/{run}/predictions/{model}/seed{seed}.parquet"),
        comparison="results/{run}/tables/comparison.csv",
        lib=library("evaluation", "datasets/answers.py"),
    output:
        **{key: f"results/{{run}}/tables/{name}.csv" for key, name in ASSESSED.items()},
    log:
        "results/{run}/logs/assess_models.log",
    benchmark:
        "results/{run}/benchmarks/assess_models.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        models=config["models"],
        trained=trained_models(),
        seeds=config["seeds"],
        any_present=config["dataset"].get("label") == "any",
        fairness=section("fairness"),
        checks=section("checks"),
        statistics=section("statistics"),
    script:
        "../../scripts/assess_models.py"


rule draw_assessment:
    input:
        groups="results/{run}/tables/fairness.csv",
        gaps="results/{run}/tables/fairness_gaps.csv",
        bins="results/{run}/tables/reliability.csv" if "bins" in ASSESSED else [],
        calibration="results/{run}/tables/calibration.csv" if "bins" in ASSESSED else [],
        lib=library(
            "evaluation/gaps.py",
            "evaluation/paired.py",
            "figures/fairness.py",
            "figures/reliability.py",
            "figures/style.py",
        ),
    output:
        **(
            {
                "reliability": report(
                    "results/{run}/figures/reliability/all_models.svg",
                    caption="../report/reliability.rst",
                    category="Models",
                    labels={"figure": "reliability", "model": "all"},
                ),
                "reliability_png": "results/{run}/figures/reliability/all_models.png",
            }
            if "bins" in ASSESSED
            else {}
        ),
        fairness=report(
            "results/{run}/figures/fairness/all_models.svg",
            caption="../report/fairness.rst",
            category="Models",
            labels={"figure": "groups", "model": "all"},
        ),
        fairness_png="results/{run}/figures/fairness/all_models.png",
    log:
        "results/{run}/logs/draw_assessment.log",
    benchmark:
        "results/{run}/benchmarks/draw_assessment.tsv"
    conda:
        "../../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=15,
    script:
        "../../scripts/draw_assessment.py"


rule compare_published:
    input:
        published=BASE / "resources/published_results.csv",
        tables=published_tables(),
        quality="results/{run}/tables/quality.csv",
        lib=library("evaluation/published.py"),
    output:
        "results/{run}/tables/reproduction.csv",
    log:
        "results/{run}/logs/compare_published.log",
    benchmark:
        "results/{run}/benchmarks/compare_published.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=15,
    params:
        published=section("published"),
    script:
        "../../scripts/compare_published.py"
