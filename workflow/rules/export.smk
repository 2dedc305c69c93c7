# Checkpoints in a form that can be used elsewhere; on request only, since they are copies.


rule export:
    input:
        of_run(
            "results/{run}/checkpoints/{model}/seed{seed}/export/README.md",
            model=[m for m in config["models"] if model_attribute(config, m, "trained", True)],
        ),


rule export_model:
    input:
        samples=model_samples,
        tokenizer="results/{run}/data/tokenizer.json",
        classes="results/{run}/data/classes.csv",
        start=model_weights,
        features=model_features,
        weights="results/{run}/checkpoints/{model}/seed{seed}/model.safetensors",
        config="results/{run}/checkpoints/{model}/seed{seed}/config.yaml",
        metrics="results/{run}/metrics/{model}/seed{seed}.json",
        lib=export_library,
    output:
        weights="results/{run}/checkpoints/{model}/seed{seed}/export/model.safetensors",
        config="results/{run}/checkpoints/{model}/seed{seed}/export/config.json",
        tokenizer="results/{run}/checkpoints/{model}/seed{seed}/export/tokenizer.json",
        words="results/{run}/checkpoints/{model}/seed{seed}/export/tokenizer_config.json",
        processor="results/{run}/checkpoints/{model}/seed{seed}/export/preprocessor_config.json",
        card="results/{run}/checkpoints/{model}/seed{seed}/export/README.md",
    log:
        "results/{run}/logs/export_model/{model}/seed{seed}.log",
    benchmark:
        "results/{run}/benchmarks/export_model/{model}/seed{seed}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=30,
    params:
        model=model_settings,
        extractor=lambda wildcards: frozen_models().get(wildcards.model, ""),
        stem=lambda wildcards: bool(model_stem(wildcards)),
        kind=config["dataset"]["kind"],
        zero_shot=prompt_settings(),
    script:
        "../../scripts/export_model.py"
