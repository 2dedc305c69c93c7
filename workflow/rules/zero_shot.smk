# Zero-shot classification and retrieval, of runs whose images are classified by names.


rule zero_shot:
    input:
        of_models(ZERO_SHOT_TABLES),


rule rank_pairs:
    input:
        samples=model_samples,
        tokenizer="results/{run}/data/tokenizer.json",
        classes="results/{run}/data/classes.csv",
        start=model_weights,
        weights="results/{run}/checkpoints/{model}/seed{seed}/model.safetensors",
        predictions="results/{run}/predictions/{model}/seed{seed}.parquet",
        features=model_features,
        # Of a model that scores pairs: the embeddings of the one that ranks them first.
        first=first_ranking,
        lib=ranking_library,
    output:
        records="results/{run}/ranking/{model}/seed{seed}.parquet",
        embeddings="results/{run}/ranking/{model}/seed{seed}.npz",
    log:
        "results/{run}/logs/rank_pairs/{model}/seed{seed}.log",
    benchmark:
        "results/{run}/benchmarks/rank_pairs/{model}/seed{seed}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=6000,
        runtime=60,
    params:
        zero_shot=section("zero_shot"),
        statistics=section("statistics"),
        model=model_settings,
        device=config["device"],
        torch_threads=config["torch_threads"],
    script:
        "../../scripts/rank_pairs.py"


rule tabulate_zero_shot:
    input:
        samples="results/{run}/data/samples.csv",
        classes="results/{run}/data/classes.csv",
        records=of_run("results/{run}/ranking/{model}/seed{seed}.parquet"),
        lib=library("evaluation/statistics.py", "ranking/__init__.py", "ranking/tables.py"),
    output:
        zero_shot="results/{run}/tables/zero_shot.csv",
        retrieval="results/{run}/tables/retrieval.csv",
    log:
        "results/{run}/logs/tabulate_zero_shot.log",
    benchmark:
        "results/{run}/benchmarks/tabulate_zero_shot.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
    params:
        models=config["models"],
        seeds=config["seeds"],
        origins=weight_origins(),
        first=first_rankers(),
        statistics=section("statistics"),
    script:
        "../../scripts/tabulate_zero_shot.py"
