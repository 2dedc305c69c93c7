"""What a user sees of a mistake: key, found, remedy, and nothing is computed."""

import json

import numpy as np
import pytest
import yaml
from conftest import DEMO, snakemake
from PIL import Image


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["modells=1"], ["unknown key 'modells'", "did you mean models or model?"]),
        (
            ["models=[vilt_scratch, clip_scrath]"],
            ["models: unknown model 'clip_scrath'", "did you mean clip_scratch"],
        ),
        (
            ["device=gpu", "training={epochs: many}"],
            ["2 problems", 'device: found "gpu"', 'training.epochs: found "many"', "type integer"],
        ),
    ],
)
def test_mistake_in_the_config_stops_before_anything_runs(tmp_path, settings, expected):
    arguments = ["--cores", "1", "-n", "--configfile", DEMO, "--config", *settings]
    done = snakemake(*arguments, directory=tmp_path)
    shown = done.stdout + done.stderr  # a dry run prints its messages to stdout
    assert done.returncode != 0
    assert all(text in shown for text in ["the configuration cannot be used", *expected]), shown
    assert "Traceback" not in shown
    assert not (tmp_path / "results").exists()


def test_mistake_in_the_config_is_on_stderr_of_a_real_run(tmp_path):
    arguments = ["--cores", "1", "--configfile", DEMO, "--config", "modells=1"]
    done = snakemake(*arguments, directory=tmp_path)
    assert done.returncode != 0
    assert "unknown key 'modells': did you mean models or model?" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "results").exists()


def write_faulty_data(root):
    """A data set in the Hateful-Memes layout with one fault of each kind."""
    (root / "img").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / "img/good.jpg")
    content = (root / "img/good.jpg").read_bytes()
    (root / "img/half.jpg").write_bytes(content[: len(content) // 2])
    good = {"id": "01", "img": "img/good.jpg", "label": 0, "text": "fine"}
    lines = [
        good,
        {**good, "label": 1},
        {**good, "id": "02", "img": "img/gone.jpg"},
        {**good, "id": "03", "img": "img/half.jpg"},
        {**good, "id": "04", "label": "hateful"},
        {**good, "id": "05", "text": ""},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"id": "06",\n'
    (root / "train.jsonl").write_text(text)
    (root / "val.jsonl").write_text(json.dumps({**good, "id": "v1"}) + "\n")


def test_faulty_files_stop_the_run_before_training_and_are_all_shown(tmp_path):
    root = tmp_path / "data"
    write_faulty_data(root)
    config = {
        "run": "faulty",
        # Over the kind of config.yaml; no masks, so the stem is not pretrained.
        "dataset": {
            "kind": "hateful_memes",
            "root": str(root),
            "files": {split: f"{split}.jsonl" for split in ("train", "val", "test")},
        },
        "models": ["text_only", "vilt_scratch"],
        "methods": ["random", "rollout"],
        "seeds": [0],
        "device": "cpu",
        "stem": {"pretrain": False},
    }
    (tmp_path / "faulty.yaml").write_text(yaml.safe_dump(config))
    arguments = ["--cores", "1", "--configfile", tmp_path / "faulty.yaml"]
    done = snakemake(*arguments, directory=tmp_path)
    shown = done.stdout + done.stderr
    assert done.returncode != 0
    train = root / "train.jsonl"
    for problem in (
        "the data set cannot be used: 7 problems",
        f"{train} line 2: duplicate id '01', first in {train} line 1; make ids unique",
        f"{train} line 3: image {root}/img/gone.jpg is missing; download it or correct",
        f"{train} line 4: image {root}/img/half.jpg cannot be decoded",
        f"{train} line 5: label \"hateful\" of id '04'; expected 0 or 1",
        f"{train} line 6: empty text of id '05'",
        f"{train} line 7: invalid JSON",
        f"{root / 'test.jsonl'}: no such file; expected a jsonl file (dataset.files.test)",
    ):
        assert problem in shown, shown
    results = tmp_path / "results/faulty"
    assert not (results / "data/samples.csv").exists()
    assert not (results / "checkpoints").exists()
    assert [path.name for path in (results / "logs").rglob("*.log")] == ["build_samples.log"]
