# Explanations of one trained model, and where they point.


rule explain:
    input:
        of_explained("results/{run}/attributions/{model}/seed{seed}.parquet"),
        of_explained("results/{run}/tables/localisation.csv"),


rule explain_model:
    input:
        samples=model_samples,
        tokenizer="results/{run}/data/tokenizer.json",
        classes="results/{run}/data/classes.csv",
        start=model_weights,
        weights="results/{run}/checkpoints/{model}/seed{seed}/model.safetensors",
        predictions="results/{run}/predictions/{model}/seed{seed}.parquet",
        features=model_features,
        lib=explanation_library,
    # Attributions and their perturbation tests in one job: both need the loaded model.
    output:
        attributions=f"results/{{run}}/attributions/{{model}}/{SHARD}.parquet",
        perturbation=f"results/{{run}}/perturbation/{{model}}/{SHARD}.parquet",
    log:
        f"results/{{run}}/logs/explain_model/{{model}}/{SHARD}.log",
    benchmark:
        f"results/{{run}}/benchmarks/explain_model/{{model}}/{SHARD}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=3000,
        runtime=60,
    params:
        methods=config["methods"],
        explain=explain_settings(),
        perturbation=section("perturbation"),
        model=model_settings,
        device=config["device"],
        torch_threads=config["torch_threads"],
    script:
        "../../scripts/explain_model.py"


rule draw_attributions:
    input:
        samples="results/{run}/data/samples.csv",
        truth="results/{run}/data/truth.parquet",
        classes="results/{run}/data/classes.csv",
        predictions=f"results/{{run}}/predictions/{{model}}/seed{config['seeds'][0]}.parquet",
        attributions=f"results/{{run}}/attributions/{{model}}/seed{config['seeds'][0]}.parquet",
        lib=library(
            "datasets/images.py",
            "datasets/truth.py",
            "explanation/words.py",
            "figures/attributions.py",
            "figures/relevance.py",
            "figures/style.py",
        ),
    output:
        svg=report(
            "results/{run}/figures/attributions/{model}.svg",
            caption="../report/attributions.rst",
            category="Explanations",
            subcategory="{model}",
            labels={"figure": "attributions", "model": "{model}"},
        ),
        png="results/{run}/figures/attributions/{model}.png",
    log:
        "results/{run}/logs/draw_attributions/{model}.log",
    benchmark:
        "results/{run}/benchmarks/draw_attributions/{model}.tsv"
    conda:
        "../../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=15,
    params:
        methods=config["methods"],
    script:
        "../../scripts/draw_attributions.py"
