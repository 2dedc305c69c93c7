"""Captions: those of the stock model, generated once, joined to the texts."""

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from checkpoints import small_captioner
from conftest import DEMO, snakemake
from PIL import Image
from transformers import BlipForConditionalGeneration, BlipProcessor

from mmlens.features.captions import Captions, joined
from mmlens.table import DataError


@pytest.fixture(scope="module")
def captioner(tmp_path_factory):
    return small_captioner(tmp_path_factory.mktemp("blip") / "model")


def test_captions_are_those_of_the_stock_model(captioner):
    generator = np.random.default_rng(0)
    images = [
        Image.fromarray(generator.integers(0, 256, (40 + k, 50, 3), np.uint8)) for k in range(6)
    ]
    ours = Captions(str(captioner), length=5)
    pixels = torch.from_numpy(np.stack([ours.geometry.apply(image) for image in images]))
    stock = BlipForConditionalGeneration.from_pretrained(captioner).eval()
    processor = BlipProcessor.from_pretrained(captioner)
    with torch.inference_mode():
        found = ours.extract(pixels)["caption"].tolist()
        inputs = processor(images=images, return_tensors="pt")
        ids = stock.generate(**inputs, max_new_tokens=5, do_sample=False)
    assert found == processor.batch_decode(ids, skip_special_tokens=True)
    assert all(found)


def test_texts_and_captions_are_joined_by_the_separator():
    assert joined(["a b", "c"], ["d", ""], " . ") == ["a b . d", "c"]


def test_a_missing_captioner_is_named(tmp_path):
    with pytest.raises(DataError, match=r"captions\.model: .*nowhere is no folder"):
        Captions(str(tmp_path / "nowhere"))


def test_the_rule_captions_every_image_once_and_joins_the_texts(captioner, tmp_path):
    overlay = tmp_path / "captions.yaml"
    captions = {"enabled": True, "model": str(captioner), "length": 4, "separator": " | "}
    quads = {"train": 6, "val": 2, "test": 2}
    overlay.write_text(yaml.safe_dump({"captions": captions, "dataset": {"quads": quads}}))
    arguments = ["--cores", "1", "--configfile", DEMO, overlay, "--"]
    target = "results/test/data/samples.csv"
    done = snakemake(*arguments, target, directory=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "results/test/data"
    plain = pd.read_csv(folder / "plain/samples.csv", dtype=str).set_index("sample_id")
    found = pd.read_csv(folder / "samples.csv", dtype=str).set_index("sample_id")
    captions = pd.read_parquet(folder / "captions.parquet").set_index("image")["caption"]
    assert len(captions) == 20
    assert captions.str.len().gt(0).all()
    expected = plain["text"] + " | " + plain["image"].map(captions)
    assert found["text"].tolist() == expected.tolist()
    assert found.drop(columns="text").equals(plain.drop(columns="text"))
    again = snakemake("--forcerun", "caption_images", *arguments, target, directory=tmp_path)
    assert again.returncode == 0, again.stderr
    log = (tmp_path / "results/test/logs/caption_images.log").read_text()
    assert "captions: 0 of 20 images computed" in log
