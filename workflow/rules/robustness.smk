# Robustness: predictions for corrupted images and texts.


rule robustness:
    input:
        of_models("results/{run}/tables/robustness.csv"),
        of_models("results/{run}/figures/robustness/all_models.svg"),


rule corrupt_model:
    input:
        samples=model_samples,
        tokenizer="results/{run}/data/tokenizer.json",
        classes="results/{run}/data/classes.csv",
        start=model_weights,
        weights="results/{run}/checkpoints/{model}/seed{seed}/model.safetensors",
        predictions="results/{run}/predictions/{model}/seed{seed}.parquet",
        features=model_features,
        extractor=of_extractor(extractor_weights),
        tables=of_extractor(lambda wildcards: list(extractor_tables(wildcards).values())),
        lib=robustness_library,
    output:
        "results/{run}/robustness/{model}/seed{seed}.parquet",
    log:
        "results/{run}/logs/corrupt_model/{model}/seed{seed}.log",
    benchmark:
        "results/{run}/benchmarks/corrupt_model/{model}/seed{seed}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=60,
    params:
        robustness=robustness_settings(),
        size=corrupted_size(),
        extractor=model_extractor,
        captions=reads_captions,
        model=model_settings,
        zero_shot=prompt_settings(),
        device=config["device"],
        torch_threads=config["torch_threads"],
    script:
        "../../scripts/corrupt_model.py"


rule tabulate_robustness:
    input:
        samples="results/{run}/data/samples.csv",
        classes="results/{run}/data/classes.csv",
        records=of_run("results/{run}/robustness/{model}/seed{seed}.parquet"),
        lib=library("evaluation", "datasets/answers.py", "robustness"),
    output:
        "results/{run}/tables/robustness.csv",
    log:
        "results/{run}/logs/tabulate_robustness.log",
    benchmark:
        "results/{run}/benchmarks/tabulate_robustness.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        models=config["models"],
        seeds=config["seeds"],
        any_present=config["dataset"].get("label") == "any",
        statistics=section("statistics"),
    script:
        "../../scripts/tabulate_robustness.py"


rule draw_robustness:
    input:
        table="results/{run}/tables/robustness.csv",
        lib=library("figures/robustness.py", "figures/style.py"),
    output:
        svg=report(
            "results/{run}/figures/robustness/all_models.svg",
            caption="../report/robustness.rst",
            category="Models",
            labels={"figure": "robustness", "model": "all"},
        ),
        png="results/{run}/figures/robustness/all_models.png",
    log:
        "results/{run}/logs/draw_robustness.log",
    benchmark:
        "results/{run}/benchmarks/draw_robustness.tsv"
    conda:
        "../../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=15,
    script:
        "../../scripts/draw_robustness.py"
