from snakemake.utils import min_version

min_version("9.27")


configfile: workflow.source_path("config/config.yaml")


include: "workflow/rules/common.smk"
include: "workflow/rules/settings.smk"
include: "workflow/rules/libraries.smk"


report: "workflow/report/workflow.rst"


wildcard_constraints:
    run=config["run"],
    model=one_of(config["models"]),
    seed=r"\d+",
    shard=r"\d+",
    extractor="|".join(EXTRACTORS.names()),
    weights=one_of(config["weights"]),
    case=one_of([case["name"] for case in config["cases"]]),


include: "workflow/rules/data.smk"
include: "workflow/rules/weights.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/predict.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/assess.smk"
include: "workflow/rules/zero_shot.smk"
include: "workflow/rules/robustness.smk"
include: "workflow/rules/export.smk"
include: "workflow/rules/explain.smk"
include: "workflow/rules/cases.smk"
include: "workflow/rules/perturb.smk"
include: "workflow/rules/sanity.smk"
include: "workflow/rules/diagnose.smk"
include: "workflow/rules/report.smk"


if SHARDS > 1:

    include: "workflow/rules/shards.smk"


if config["tracking"]["mlflow"]:

    include: "workflow/rules/track.smk"


rule all:
    default_target: True
    input:
        rules.data.input,
        rules.features.input,
        rules.predict.input,
        rules.evaluate.input,
        rules.assess.input,
        rules.zero_shot.input,
        if_enabled("robustness", rules.robustness.input),
        rules.explain.input,
        rules.perturb.input,
        if_enabled("sanity", rules.sanity.input),
        if_enabled("diagnostics", rules.diagnose.input),
        rules.figures.input,
        rules.summary.input,
        tracking_files(),
