# Explanations of one trained model, and where they point.


rule explain:
    input:
        of_run("results/{run}/attributions/{model}/seed{seed}.parquet"),
        of_run("results/{run}/tables/localisation.csv"),


rule explain_model:
    # Attributions and their perturbation tests in one job: both need the loaded model.
    output:
        attributions="results/{run}/attributions/{model}/seed{seed}.parquet",
        perturbation="results/{run}/perturbation/{model}/seed{seed}.parquet",
    input:
        samples="results/{run}/data/samples.csv",
        tokenizer="results/{run}/data/tokenizer.json",
        weights="results/{run}/checkpoints/{model}/seed{seed}/model.safetensors",
        predictions="results/{run}/predictions/{model}/seed{seed}.parquet",
        lib=library("models", "explanation", "perturbation"),
    params:
        methods=config["methods"],
        explain=section("explain"),
        perturbation=section("perturbation"),
        model=section("model"),
        device=config["device"],
        torch_threads=config["torch_threads"],
    log:
        "results/{run}/logs/explain_model/{model}/seed{seed}.log",
    benchmark:
        "results/{run}/benchmarks/explain_model/{model}/seed{seed}.tsv"
    threads: 1
    resources:
        gpu=1,
        mem_mb=3000,
        runtime=120,
    conda:
        "../../envs/torch.yaml"
    script:
        "../../scripts/explain_model.py"


rule draw_attributions:
    output:
        svg=report(
            "results/{run}/figures/attributions/{model}.svg",
            caption="../report/attributions.rst",
            category="Explanations",
            subcategory="{model}",
            labels={"figure": "attributions", "model": "{model}"},
        ),
        png="results/{run}/figures/attributions/{model}.png",
    input:
        samples="results/{run}/data/samples.csv",
        truth="results/{run}/data/truth.parquet",
        predictions=f"results/{{run}}/predictions/{{model}}/seed{config['seeds'][0]}.parquet",
        attributions=f"results/{{run}}/attributions/{{model}}/seed{config['seeds'][0]}.parquet",
        lib=library("figures"),
    params:
        methods=config["methods"],
    log:
        "results/{run}/logs/draw_attributions/{model}.log",
    benchmark:
        "results/{run}/benchmarks/draw_attributions/{model}.tsv"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=15,
    conda:
        "../../envs/plot.yaml"
    script:
        "../../scripts/draw_attributions.py"
