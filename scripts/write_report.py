"""Write the comparison report as HTML and Markdown."""

import sys

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

import json
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import yaml

from mmlens import __version__
from mmlens.files import write_text
from mmlens.report import tables
from mmlens.report.diagnostics import diagnostic_tables
from mmlens.report.evaluation import evaluation_findings, evaluation_tables
from mmlens.report.findings import model_findings, verdicts
from mmlens.report.page import embedded, render_html, render_markdown
from mmlens.report.pairs import best_against_others, pair_findings
from mmlens.report.sanity import modality_table, sanity_table
from mmlens.report.texts import NOTES, explanation_findings, introduction

inputs, params = snakemake.input, snakemake.params
config = params.config


def read(path):
    words = dict.fromkeys(("seeds", "subset", "group", "best", "worst", "level"), str)
    return pd.read_csv(path, dtype=words, keep_default_na=False, na_values=[""])


frames = {name: read(inputs[name]) for name in ("audit", "quality", "model_cost", "cost")}
comparison = read(inputs.comparison)
shown = {
    "comparison": tables.comparison_table(comparison),
    "groups": tables.group_table(comparison),
    **frames,
}
evaluation = {Path(path).stem: read(path) for path in inputs.evaluation}
shown |= evaluation_tables(evaluation)
findings, explained = model_findings(comparison, params.task) + evaluation_findings(evaluation), 0
if inputs.perturbation:  # of a run that explains decisions
    perturbation = read(inputs.perturbation[0])
    explained = int(perturbation["n"].max())
    modality = "image" if "image" in set(perturbation["modality"]) else "text"
    pairs = read(inputs.pairs[0])
    against_random = verdicts(perturbation, pairs, comparison, modality)
    findings += explanation_findings(against_random, modality)
    against_best = best_against_others(pairs, modality)
    findings += pair_findings(against_best, modality)
    shown |= {
        "verdicts": against_random,
        "pairs": tables.pairs_table(against_best),
        "perturbation": tables.perturbation_table(perturbation),
        "localisation": tables.localisation_table(read(inputs.localisation[0])),
        "not_applicable": read(inputs.missing[0]),
    }
if inputs.sanity:
    sanity = read(inputs.sanity[0])
    shown |= {"sanity": sanity_table(sanity), "modality": modality_table(sanity)}
shown |= diagnostic_tables([read(path) for path in inputs.diagnostics])
figures = [
    {
        "title": " ".join(Path(path).with_suffix("").parts[-2:]).replace("_", " "),
        "file": "/".join(Path(path).parts[-2:]),
        "uri": embedded(path),
    }
    for path in inputs.figures
]
stem = json.loads(Path(inputs.stem[0]).read_text()) if inputs.stem else None
content = {
    "title": f"mmlens: comparison of run {config['run']}",
    "paragraphs": introduction(config, stem, params.stem_models, params.frozen, explained),
    "findings": findings,
    "tables": [
        tables.Shown.of(title, note, shown[name], file)
        for name, (title, note, file) in NOTES.items()
        if len(shown.get(name, ()))
    ],
    "figures": figures,
    "reproduce": yaml.safe_dump(config, sort_keys=True),
}
packages = ("torch", "numpy", "pandas", "scikit-learn", "tokenizers", "snakemake")
versions = ", ".join(f"{name} {version(name)}" for name in packages)
write_text(
    snakemake.output.html,
    render_html(inputs.template, version=__version__, versions=versions, **content),
)
write_text(snakemake.output.markdown, render_markdown(**content))
