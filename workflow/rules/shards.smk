# Joins what several jobs explained of one model; part of runs with explain.shards above 1.


rule join_explanations:
    input:
        attributions=shard_files("attributions"),
        perturbation=shard_files("perturbation"),
        lib=library("perturbation/shards.py"),
    output:
        attributions="results/{run}/attributions/{model}/seed{seed}.parquet",
        perturbation="results/{run}/perturbation/{model}/seed{seed}.parquet",
    log:
        "results/{run}/logs/join_explanations/{model}/seed{seed}.log",
    benchmark:
        "results/{run}/benchmarks/join_explanations/{model}/seed{seed}.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=30,
    script:
        "../../scripts/join_explanations.py"
