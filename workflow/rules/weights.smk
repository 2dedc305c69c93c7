# What models and extractors start from: entries of section weights, shared by all runs.


rule weights:
    input:
        expand("resources/weights/{weights}/weights.json", weights=fetched_weights()),


rule fetch_weights:
    input:
        lib=library("checkpoints.py", "weights.py", "download"),
    output:
        # Stands for the files that it lists; Snakemake would delete those of a failed job.
        "resources/weights/{weights}/weights.json",
    log:
        "resources/logs/fetch_weights/{weights}.log",
    benchmark:
        "resources/benchmarks/fetch_weights/{weights}.tsv"
    # Where the jobs run there may be no network.
    localrule: True
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=6000,
        runtime=600,
    params:
        source=weights_source,
        downloads="resources/downloads/weights",
    script:
        "../../scripts/fetch_weights.py"
