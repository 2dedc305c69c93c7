"""The same path on real photographs and sentences."""

import pandas as pd
import pytest
import yaml
from conftest import ROOT, SHARED, snakemake

pytestmark = pytest.mark.slow
DATA = SHARED / "data/coco_open"
# What the models have learned is not tested here.
SHORT = """
seeds: [0]
training: { epochs: 2 }
training_of:
  vilbert_scratch: { epochs: 2 }
  blip_scratch: { epochs: 2 }
  vilt_scratch: { epochs: 2 }
"""


def test_real_files_end_in_the_same_tables_and_report(tmp_path):
    if not DATA.is_dir():
        pytest.skip("no ../shared/data/coco_open beside this checkout")
    overlay = tmp_path / "short.yaml"
    overlay.write_text(SHORT)
    done = snakemake(
        "--cores",
        "2",
        "--configfile",
        ROOT / "config/coco_pairs.yaml",
        overlay,
        "--config",
        f"dataset={{root: {DATA}}}",
        directory=tmp_path,
        timeout=2400,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = tmp_path / "results/coco_pairs"
    # The stem starts untrained here.
    used = yaml.safe_load((results / "checkpoints/vilt_scratch/seed0/config.yaml").read_text())
    assert used["training"]["stem_lr_factor"] == 1.0
    quality = pd.read_csv(results / "tables/quality.csv").set_index("split")
    assert quality["duplicates_dropped"].to_dict() == {"train": 311, "val": 58, "test": 98}
    assert quality["contradicting_pairs"].sum() == 0
    comparison = pd.read_csv(results / "tables/comparison.csv")
    overall = comparison[comparison["subset"] == "all"]
    assert (overall["n"] == 442 - 98).all()
    assert overall["auroc"].between(0.3, 0.8).all()  # real, and not leaked
    perturbation = pd.read_csv(results / "tables/perturbation_auc.csv")
    assert (perturbation.loc[perturbation["subset"] == "all", "n"] >= 100).all()
    assert (results / "report/index.html").stat().st_size > 500_000
