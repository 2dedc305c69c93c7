"""Tables of explanations: perturbation, localisation, pairs of methods, what cannot apply."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

import pandas as pd

from mmlens.explanation.missing import tabulate_missing
from mmlens.perturbation.curves import tabulate_auc, tabulate_skill
from mmlens.perturbation.localisation import tabulate_localisation
from mmlens.perturbation.method_pairs import compare_methods
from mmlens.table import read_runs, read_samples, write_csv

params, inputs = snakemake.params, snakemake.input
samples = read_samples(inputs.samples)
attributions = read_runs(inputs.attributions, params.models, params.seeds)
perturbation = read_runs(inputs.perturbation, params.models, params.seeds)
truth = pd.read_parquet(inputs.truth)
write_csv(
    snakemake.output.perturbation,
    tabulate_auc(perturbation, attributions, samples, **params.statistics),
)
write_csv(
    snakemake.output.skill,
    tabulate_skill(perturbation, attributions, samples, **params.statistics),
)
write_csv(
    snakemake.output.localisation,
    tabulate_localisation(attributions, samples, truth, **params.statistics),
)
write_csv(
    snakemake.output.missing, tabulate_missing(inputs.attributions, params.models, params.seeds)
)
write_csv(
    snakemake.output.pairs,
    compare_methods(perturbation, attributions, samples, scores=params.scores, **params.statistics),
)
