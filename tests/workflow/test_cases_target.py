"""The target cases after a run: its checkpoint is used, and its numbers come out."""

import json

import numpy as np
import pandas as pd
import yaml
from conftest import DEMO, snakemake

METHODS = ["random", "rollout", "saliency"]


def test_cases_of_a_run_have_its_numbers_and_train_nothing(demo):
    directory = demo.parents[1]
    table = pd.read_parquet(demo / "attributions/vilt_scratch/seed0.parquet")
    rows = table[(table["draw"] == 0) & (table["sample_id"] == table["sample_id"].iat[0])]
    rows = rows.set_index("method")
    sample_id = rows["sample_id"].iat[0]
    image = pd.read_csv(demo / "data/samples.csv", dtype=str)["image"].iat[0]
    cases = [{"name": "sample", "model": "vilt_scratch", "sample_id": sample_id}]
    cases[0] |= {"methods": METHODS}
    cases.append({"name": "own", "model": "vilt_scratch", "image": image, "text": "a red ring"})
    cases[1] |= {"methods": ["rollout"], "target": 1}
    overlay = directory / "cases.yaml"
    overlay.write_text(yaml.safe_dump({"cases": cases}))
    done = snakemake("cases", "--cores", "1", "--configfile", DEMO, overlay, directory=directory)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "train_model" not in done.stdout + done.stderr
    found = json.loads((demo / "cases/sample/case.json").read_text())
    assert found["target"] == rows["target"].iat[0]
    assert found["tokens"] == rows["tokens"].iat[0].tolist()
    for method in METHODS:
        for modality in ("image", "text"):
            expected = rows.loc[method, modality]
            np.testing.assert_allclose(found["maps"][method][modality], expected, rtol=1e-3)
    own = json.loads((demo / "cases/own/case.json").read_text())
    assert (own["target"], own["tokens"]) == (1, ["a", "red", "ring"])
    for name in ("overlay.svg", "overlay.png", "layers.svg", "layers.png"):
        assert (demo / "cases/own" / name).stat().st_size > 1000
