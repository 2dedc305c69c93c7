# From nothing, or from downloads, to the samples table.


rule data:
    input:
        of_run("results/{run}/data/samples.csv"),
        of_run("results/{run}/tables/audit.csv"),


rule generate_dataset:
    output:
        directory("results/{run}/data/generated"),
    input:
        lib=library("datasets"),
    params:
        dataset=dataset_settings,
    log:
        "results/{run}/logs/generate_dataset.log",
    benchmark:
        "results/{run}/benchmarks/generate_dataset.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    conda:
        "../../envs/data.yaml"
    script:
        "../../scripts/generate_dataset.py"


rule build_samples:
    output:
        samples="results/{run}/data/samples.csv",
        truth="results/{run}/data/truth.parquet",
        tokenizer="results/{run}/data/tokenizer.json",
        quality="results/{run}/tables/quality.csv",
    input:
        files=dataset_files,
        lib=library("datasets"),
    params:
        dataset=dataset_settings,
        sample=section("sample"),
        modalities=modalities_read(config["models"]),
    log:
        "results/{run}/logs/build_samples.log",
    benchmark:
        "results/{run}/benchmarks/build_samples.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    conda:
        "../../envs/data.yaml"
    script:
        "../../scripts/build_samples.py"


rule audit_dataset:
    output:
        "results/{run}/tables/audit.csv",
    input:
        samples="results/{run}/data/samples.csv",
        truth="results/{run}/data/truth.parquet",
        lib=library("datasets"),
    params:
        # Only the generated data promises balance; real data is reported as it is.
        enforce=config["dataset"]["kind"] == "generated",
    log:
        "results/{run}/logs/audit_dataset.log",
    benchmark:
        "results/{run}/benchmarks/audit_dataset.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    conda:
        "../../envs/data.yaml"
    script:
        "../../scripts/audit_dataset.py"
