# Single cases, on request only: section cases of the config.


rule cases:
    input:
        expand(
            "results/{run}/cases/{case}/case.json",
            run=config["run"],
            case=[case["name"] for case in config["cases"]],
        ),


rule explain_case:
    input:
        samples=of_case(model_samples),
        facts="results/{run}/data/samples.csv",
        tokenizer="results/{run}/data/tokenizer.json",
        classes="results/{run}/data/classes.csv",
        start=of_case(model_weights),
        weights=of_case(lambda wildcards: f"{first_checkpoint(wildcards)}/model.safetensors"),
        config=of_case(lambda wildcards: f"{first_checkpoint(wildcards)}/config.yaml"),
        features=of_case(model_features),
        image=case_image,
        lib=of_case(case_library),
    output:
        case="results/{run}/cases/{case}/case.json",
        overlay=report(
            "results/{run}/cases/{case}/overlay.svg",
            caption="../report/cases.rst",
            category="Explanations",
            subcategory="cases",
            labels={"figure": "case {case}", "model": "one"},
        ),
        overlay_png="results/{run}/cases/{case}/overlay.png",
        layers="results/{run}/cases/{case}/layers.svg",
        layers_png="results/{run}/cases/{case}/layers.png",
    log:
        "results/{run}/logs/explain_case/{case}.log",
    benchmark:
        "results/{run}/benchmarks/explain_case/{case}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=3000,
        runtime=15,
    params:
        case=case_of,
        explain=explain_settings(),
        device=config["device"],
        torch_threads=config["torch_threads"],
    script:
        "../../scripts/explain_case.py"
