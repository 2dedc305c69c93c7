# Visual features: the convolutional stem that all models share.


rule pretrain_stem:
    output:
        weights="results/{run}/features/stem/stem.safetensors",
        facts="results/{run}/features/stem/stem.json",
    input:
        samples="results/{run}/data/samples.csv",
        truth="results/{run}/data/truth.parquet",
        tokenizer="results/{run}/data/tokenizer.json",
        # Nothing is trained on a data set that fails its audit; a new audit changes no weights.
        audit=ancient("results/{run}/tables/audit.csv"),
        lib=library("datasets", "models", "features"),
    params:
        stem=section("stem"),
        model=section("model"),
        device=config["device"],
        torch_threads=config["torch_threads"],
        seed=min(config["seeds"]),
    log:
        "results/{run}/logs/pretrain_stem.log",
    benchmark:
        "results/{run}/benchmarks/pretrain_stem.tsv"
    threads: 1
    resources:
        gpu=1,
        mem_mb=3000,
        runtime=60,
    conda:
        "../../envs/torch.yaml"
    script:
        "../../scripts/pretrain_stem.py"
