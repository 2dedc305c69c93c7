# Visual features: the convolutional stem that models share, and features of frozen extractors.


rule features:
    input:
        expand(
            "results/{run}/features/{extractor}/index.parquet",
            run=config["run"],
            extractor=config["features"]["extractors"],
        ),


rule pretrain_stem:
    input:
        samples="results/{run}/data/samples.csv",
        truth="results/{run}/data/truth.parquet",
        tokenizer="results/{run}/data/tokenizer.json",
        # Nothing is trained on a data set that fails its audit. (Not ancient(): when the audit
        # reruns, Snakemake 9.27 would then overlook changed params of the jobs after this one.)
        audit="results/{run}/tables/audit.csv",
        lib=torch_library([], "datasets/truth.py", "features/stem.py"),
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


rule extract_features:
    input:
        samples="results/{run}/data/samples.csv",
        weights=extractor_weights,
        tables=lambda wildcards: list(extractor_tables(wildcards).values()),
        lib=lambda wildcards: extractor_library(wildcards.extractor),
    # The features themselves lie in the cache, which all runs share and Snakemake never deletes.
    output:
        index="results/{run}/features/{extractor}/index.parquet",
        facts="results/{run}/features/{extractor}/facts.json",
    log:
        "results/{run}/logs/extract_features/{extractor}.log",
    benchmark:
        "results/{run}/benchmarks/extract_features/{extractor}.tsv"
    # Before the models that do not wait for it, or those that do come last and alone.
    priority: 2
    conda:
        "../../envs/torch.yaml"
    threads: config["features"]["threads"]
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=60,
    params:
        settings=extractor_settings,
        features=cache_settings,
        device=config["device"],
        torch_threads=config["torch_threads"],
    script:
        "../../scripts/extract_features.py"


# Only asked for with captions.enabled; see SAMPLED and CAPTIONED in common.smk.
rule caption_images:
    input:
        samples=f"results/{{run}}/{SAMPLED}/samples.csv",
        lib=extractor_library("clip"),  # whose module loads checkpoints
    output:
        captions=f"results/{{run}}/{CAPTIONED}/captions.parquet",
        samples=f"results/{{run}}/{CAPTIONED}/samples.csv",
        tokenizer=f"results/{{run}}/{CAPTIONED}/tokenizer.json",
    log:
        "results/{run}/logs/caption_images.log",
    benchmark:
        "results/{run}/benchmarks/caption_images.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: config["features"]["threads"]
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=60,
    params:
        captions=section("captions"),
        features=cache_settings,
        device=config["device"],
        torch_threads=config["torch_threads"],
    script:
        "../../scripts/caption_images.py"
