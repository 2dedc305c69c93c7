# The run in an MLflow store, from the files of the other stages; only there if it is tracked.
from importlib.util import find_spec

from snakemake.settings.types import DeploymentMethod

if DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method:
    if config["tracking"]["live"]:
        raise WorkflowError(
            "tracking.live: found true, but the conda environment that models are trained in has "
            "no MLflow; set tracking.live: false"
        )
elif find_spec("mlflow") is None:
    raise WorkflowError(
        "tracking.mlflow: found true, but MLflow is not installed; pip install -r "
        "requirements-tracking.txt, or set tracking.mlflow: false"
    )


# One host writes to the store; both rules only copy files.
localrules:
    track_model,
    track_run,


rule track:
    input:
        tracking_files(),


rule track_model:
    input:
        files=rules.train_model.output,
        config=rules.train_model.output.config,
        history=rules.train_model.output.history,
        cost=rules.train_model.output.cost,
        benchmark=rules.train_model.benchmark,
        metrics="results/{run}/metrics/{model}/seed{seed}.json",
        lib=library("tracking.py", "report/cost.py"),
    output:
        "results/{run}/tracking/{model}/seed{seed}.json",
    log:
        "results/{run}/logs/track_model/{model}/seed{seed}.log",
    benchmark:
        "results/{run}/benchmarks/track_model/{model}/seed{seed}.tsv"
    conda:
        "../../envs/tracking.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=15,
    params:
        tracking=section("tracking"),
    script:
        "../../scripts/track_model.py"


rule track_run:
    input:
        trainings=of_run("results/{run}/tracking/{model}/seed{seed}.json", model=trained_models()),
        comparison=rules.evaluate_models.output.comparison,
        tables=TABLES,
        figures=[*FIGURES, *rules.write_report.input.figures],
        report=rules.write_report.output,
        lib=library("tracking.py"),
    output:
        "results/{run}/tracking/run.json",
    log:
        "results/{run}/logs/track_run.log",
    benchmark:
        "results/{run}/benchmarks/track_run.tsv"
    conda:
        "../../envs/tracking.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=15,
    params:
        tracking=section("tracking"),
        config=untracked_config(),
    script:
        "../../scripts/track_run.py"
