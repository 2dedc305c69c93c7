# Models that are used as their weights are, and predictions of all models.


rule predict:
    input:
        of_run("results/{run}/predictions/{model}/seed{seed}.parquet"),


rule predict_model:
    input:
        samples=model_samples,
        tokenizer="results/{run}/data/tokenizer.json",
        classes="results/{run}/data/classes.csv",
        start=model_weights,
        features=model_features,
        lib=training_library,
    output:
        weights="results/{run}/checkpoints/{model}/seed{seed}/model.safetensors",
        config="results/{run}/checkpoints/{model}/seed{seed}/config.yaml",
        cost="results/{run}/checkpoints/{model}/seed{seed}/cost.json",
        predictions="results/{run}/predictions/{model}/seed{seed}.parquet",
    log:
        "results/{run}/logs/predict_model/{model}/seed{seed}.log",
    benchmark:
        "results/{run}/benchmarks/predict_model/{model}/seed{seed}.tsv"
    wildcard_constraints:
        model=one_of(used_models()),
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=3000,
        runtime=60,
    params:
        model=model_settings,
        splits=config["predict"]["splits"],
        zero_shot=prompt_settings(),
        device=config["device"],
        torch_threads=config["torch_threads"],
    script:
        "../../scripts/predict_model.py"
