"""What the predictions of all models tell beside their metrics: pairs of models, seeds, fairness,
calibration, confounders, checks, and answers by type."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

import pandas as pd

from mmlens.evaluation.answers import best_constant, per_sample
from mmlens.evaluation.calibration import assess_calibration
from mmlens.evaluation.checks import check_leakage, check_predictions
from mmlens.evaluation.confounders import confounder_accuracy
from mmlens.evaluation.fairness import assess_groups
from mmlens.evaluation.model_pairs import compare_models
from mmlens.evaluation.question_types import accuracy_by_type
from mmlens.evaluation.seeds import summarise_seeds
from mmlens.table import read_runs, read_samples, read_table, task_of, write_csv

params, inputs, output = snakemake.params, snakemake.input, snakemake.output
statistics = params.statistics
predictions = read_runs(inputs.predictions, params.models, params.seeds)
samples = read_samples(inputs.samples)
task, names = task_of(samples), read_table(inputs.classes)["name"].tolist()
images = read_table(inputs.images)
hashes = dict(zip(images["image"], images["perceptual_hash"], strict=True))
leakage = check_leakage(samples, hashes, params.checks["near_duplicate_bits"])
found = {name: [] for name in ("groups", "gaps", "calibration", "bins", "confounders", "types")}
found["checks"] = [leakage.assign(model="", seed="")]
accuracy, constant = {}, None
if task != "binary":
    constant = best_constant(samples[samples["split"] == "test"], params.any_present)
for model in params.models:
    for seed in params.seeds:
        own = predictions[(predictions["model"] == model) & (predictions["seed"] == seed)]
        right = {}
        if task != "binary":
            for split in set(own["split"]):
                scored = per_sample(own, samples, names, params.any_present, split)
                right[split] = scored.set_index("sample_id")["accuracy"]
        accuracy[model, seed] = right.get("test")
        facts = {"model": model, "seed": seed}
        groups, gaps = assess_groups(
            own, samples, right.get("test"), min_size=params.fairness["min_size"], **statistics
        )
        found["groups"].append(groups.assign(**facts))
        found["gaps"].append(gaps.assign(**facts))
        checks = check_predictions(
            own, samples, right.get("test"), constant, classes=len(names), **statistics
        )
        found["checks"].append(checks.assign(**facts))
        # Of classes images have one label each, and logits are no probabilities.
        if task != "classes":
            confounders = confounder_accuracy(own, samples, **statistics)
            found["confounders"].append(confounders.assign(**facts))
            truth = samples.set_index("sample_id")["label"] if task == "binary" else None
            truth = pd.concat(right.values()) if truth is None else truth
            row, bins = assess_calibration(own, samples, truth, **statistics)
            found["calibration"].append(pd.DataFrame([row]).assign(**facts))
            found["bins"].append(bins.assign(**facts))
        if task == "answers":
            types = accuracy_by_type(own, samples, names, **statistics)
            found["types"].append(types.assign(**facts))
for name, parts in found.items():
    path = output.get(name)
    if path is not None:
        table = pd.concat(parts, ignore_index=True)
        first = ["model", "seed"]
        write_csv(path, table[[*first, *table.columns.difference(first, sort=False)]])
right = None if task == "binary" else accuracy
write_csv(output.pairs, compare_models(predictions, samples, right, **statistics))
comparison = pd.read_csv(
    inputs.comparison, dtype={"seeds": str, "subset": str}, keep_default_na=False, na_values=[""]
)
# What is not trained is the same for every seed.
trained = comparison["model"].isin(params.trained)
write_csv(output.seeds, summarise_seeds(comparison[trained]))
