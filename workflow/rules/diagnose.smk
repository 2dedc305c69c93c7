# Diagnostics: what models attend to, layer by layer, and where they decide.


rule diagnose:
    input:
        of_diagnosed("results/{run}/diagnostics/{model}/seed{seed}.parquet"),
        of_diagnosed(*DIAGNOSED_TABLES, *DIAGNOSED_FIGURES),


rule diagnose_model:
    input:
        samples=model_samples,
        tokenizer="results/{run}/data/tokenizer.json",
        classes="results/{run}/data/classes.csv",
        start=model_weights,
        weights="results/{run}/checkpoints/{model}/seed{seed}/model.safetensors",
        predictions="results/{run}/predictions/{model}/seed{seed}.parquet",
        features=model_features,
        lib=diagnostics_library,
    output:
        records="results/{run}/diagnostics/{model}/seed{seed}.parquet",
    log:
        "results/{run}/logs/diagnose_model/{model}/seed{seed}.log",
    benchmark:
        "results/{run}/benchmarks/diagnose_model/{model}/seed{seed}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=3000,
        runtime=60,
    params:
        diagnostics=section("diagnostics"),
        model=model_settings,
        device=config["device"],
        torch_threads=config["torch_threads"],
    script:
        "../../scripts/diagnose_model.py"


rule tabulate_diagnostics:
    input:
        samples="results/{run}/data/samples.csv",
        records=of_diagnosed("results/{run}/diagnostics/{model}/seed{seed}.parquet"),
        lib=library(
            "diagnostics/depth.py",
            "diagnostics/outcomes.py",
            "diagnostics/tables.py",
            "evaluation/statistics.py",
            "evaluation/subsets.py",
        ),
    output:
        entropy="results/{run}/tables/attention_entropy.csv",
        cross_modal="results/{run}/tables/cross_modal_attention.csv",
        lens="results/{run}/tables/logit_lens.csv",
        depth="results/{run}/tables/decision_depth.csv",
    log:
        "results/{run}/logs/tabulate_diagnostics.log",
    benchmark:
        "results/{run}/benchmarks/tabulate_diagnostics.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
    params:
        models=diagnosed_models(),
        seeds=config["seeds"],
        statistics=section("statistics"),
    script:
        "../../scripts/tabulate_diagnostics.py"


rule draw_diagnostics:
    input:
        entropy="results/{run}/tables/attention_entropy.csv",
        cross_modal="results/{run}/tables/cross_modal_attention.csv",
        lens="results/{run}/tables/logit_lens.csv",
        records=f"results/{{run}}/diagnostics/{{model}}/seed{config['seeds'][0]}.parquet",
        lib=library(
            "diagnostics/depth.py",
            "diagnostics/outcomes.py",
            "diagnostics/tables.py",
            "evaluation/statistics.py",
            "evaluation/subsets.py",
            "figures/layer_curves.py",
            "figures/logit_lens.py",
            "figures/mean_attention.py",
            "figures/style.py",
        ),
    output:
        attention_entropy=report(
            "results/{run}/figures/attention_entropy/{model}.svg",
            caption="../report/attention_entropy.rst",
            category="Diagnostics",
            subcategory="{model}",
            labels={"figure": "attention entropy", "model": "{model}"},
        ),
        attention_entropy_png="results/{run}/figures/attention_entropy/{model}.png",
        cross_modal_attention=report(
            "results/{run}/figures/cross_modal_attention/{model}.svg",
            caption="../report/cross_modal_attention.rst",
            category="Diagnostics",
            subcategory="{model}",
            labels={"figure": "cross-modal attention", "model": "{model}"},
        ),
        cross_modal_attention_png="results/{run}/figures/cross_modal_attention/{model}.png",
        logit_lens=report(
            "results/{run}/figures/logit_lens/{model}.svg",
            caption="../report/logit_lens.rst",
            category="Diagnostics",
            subcategory="{model}",
            labels={"figure": "logit lens", "model": "{model}"},
        ),
        logit_lens_png="results/{run}/figures/logit_lens/{model}.png",
        mean_attention=report(
            "results/{run}/figures/mean_attention/{model}.svg",
            caption="../report/mean_attention.rst",
            category="Diagnostics",
            subcategory="{model}",
            labels={"figure": "mean attention", "model": "{model}"},
        ),
        mean_attention_png="results/{run}/figures/mean_attention/{model}.png",
    log:
        "results/{run}/logs/draw_diagnostics/{model}.log",
    benchmark:
        "results/{run}/benchmarks/draw_diagnostics/{model}.tsv"
    conda:
        "../../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=15,
    params:
        seed=config["seeds"][0],
    script:
        "../../scripts/draw_diagnostics.py"
