# Visual features: the convolutional stem that all models share.


rule pretrain_stem:
    input:
        samples="results/{run}/data/samples.csv",
        truth="results/{run}/data/truth.parquet",
        tokenizer="results/{run}/data/tokenizer.json",
        # Nothing is trained on a data set that fails its audit. (Not ancient(): when the audit
        # reruns, Snakemake 9.27 would then overlook changed params of the jobs after this one.)
        audit="results/{run}/tables/audit.csv",
        lib=torch_library([], "datasets/truth.py", "features"),
    output:
        weights="results/{run}/features/stem/stem.safetensors",
        facts="results/{run}/features/stem/stem.json",
    log:
        "results/{run}/logs/pretrain_stem.log",
    benchmark:
        "results/{run}/benchmarks/pretrain_stem.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=3000,
        runtime=60,
    params:
        stem=section("stem"),
        model=section("model"),
        device=config["device"],
        torch_threads=config["torch_threads"],
        seed=min(config["seeds"]),
    script:
        "../../scripts/pretrain_stem.py"
