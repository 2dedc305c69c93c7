# One job per model and seed: train, choose the checkpoint and the threshold, predict.


rule train:
    input:
        of_run("results/{run}/predictions/{model}/seed{seed}.parquet", model=trained_models()),


rule train_model:
    input:
        samples=model_samples,
        tokenizer="results/{run}/data/tokenizer.json",
        classes="results/{run}/data/classes.csv",
        stem=model_stem,
        start=model_weights,
        features=model_features,
        audit="results/{run}/tables/audit.csv",
        lib=training_library,
    output:
        weights="results/{run}/checkpoints/{model}/seed{seed}/model.safetensors",
        config="results/{run}/checkpoints/{model}/seed{seed}/config.yaml",
        history="results/{run}/checkpoints/{model}/seed{seed}/history.csv",
        cost="results/{run}/checkpoints/{model}/seed{seed}/cost.json",
        predictions="results/{run}/predictions/{model}/seed{seed}.parquet",
    log:
        "results/{run}/logs/train_model/{model}/seed{seed}.log",
    benchmark:
        "results/{run}/benchmarks/train_model/{model}/seed{seed}.tsv"
    wildcard_constraints:
        model=one_of(trained_models()),
    # The longest jobs first, so that short ones fill the gaps at the end.
    priority: 1
    conda:
        "../../envs/torch.yaml"
    threads: training_processes
    resources:
        gpu=training_processes,
        mem_mb=3000,
        runtime=60,
    params:
        training=training_settings,
        model=model_settings,
        splits=config["predict"]["splits"],
        zero_shot=prompt_settings(),
        device=config["device"],
        torch_threads=config["torch_threads"],
    script:
        "../../scripts/train_model.py"
