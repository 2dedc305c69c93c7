# From nothing, or from downloads, to the samples table.


rule data:
    input:
        of_run("results/{run}/data/samples.csv"),
        of_run("results/{run}/tables/audit.csv"),


rule generate_dataset:
    input:
        lib=generation_library(),
    output:
        directory("results/{run}/data/generated"),
    log:
        "results/{run}/logs/generate_dataset.log",
    benchmark:
        "results/{run}/benchmarks/generate_dataset.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        dataset=dataset_settings,
    script:
        "../../scripts/generate_dataset.py"


rule fetch_dataset:
    input:
        versions=BASE / "resources/data_versions.csv",
        lib=download_library(),
    output:
        # The files themselves are not declared: Snakemake would delete what a failed job has.
        "results/{run}/data/downloads.csv",
    log:
        "results/{run}/logs/fetch_dataset.log",
    benchmark:
        "results/{run}/benchmarks/fetch_dataset.tsv"
    # Where the jobs run there may be no network.
    localrule: True
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=600,
    params:
        dataset=download_settings,
    script:
        "../../scripts/fetch_dataset.py"


rule build_samples:
    input:
        files=dataset_files,
        lib=reading_library(),
    output:
        samples=f"results/{{run}}/{SAMPLED}/samples.csv",
        truth="results/{run}/data/truth.parquet",
        tokenizer=f"results/{{run}}/{SAMPLED}/tokenizer.json",
        classes="results/{run}/data/classes.csv",
        images="results/{run}/data/images.csv",
        quality="results/{run}/tables/quality.csv",
    log:
        "results/{run}/logs/build_samples.log",
    benchmark:
        "results/{run}/benchmarks/build_samples.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 2
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        dataset=dataset_settings,
        sample=section("sample"),
        modalities=modalities_read(config),
        tasks=[task_of(config)] if config["models"] else [],
        trained=not config["models"] or bool(trained_models()),
    script:
        "../../scripts/build_samples.py"


rule audit_dataset:
    input:
        samples="results/{run}/data/samples.csv",
        truth="results/{run}/data/truth.parquet",
        lib=library("datasets/audit.py"),
    output:
        "results/{run}/tables/audit.csv",
    log:
        "results/{run}/logs/audit_dataset.log",
    benchmark:
        "results/{run}/benchmarks/audit_dataset.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        # Only the generated data promises balance; real data is reported as it is.
        enforce=is_generated(),
    script:
        "../../scripts/audit_dataset.py"
