"""What the configurations of the studies download: config/README.md says what is known of it."""

from pathlib import PurePosixPath

import pytest
import yaml
from conftest import ROOT

from mmlens.config import complete_config
from mmlens.config_schema import read_schema
from mmlens.datasets.versions import read_versions

CONFIGS = ("hateful_memes", "vqa_v2", "coco_zero_shot", "text_models")


def sources(dataset):
    """{name: size} of what a run downloads of its data set, as mmlens.datasets.*_download do."""
    sizes = {}
    fine_grained = {PurePosixPath(name).name for name in dataset.get("fine_grained", {}).values()}
    for key, row in read_versions(dataset["kind"]).items():
        if key.startswith("fine_grained"):
            used = PurePosixPath(row["url"]).name in fine_grained
        elif key in ("lxmert", "train_annotations"):
            used = key in dataset
        else:
            # A file in LXMERT's form is read in place of these two.
            used = key not in ("questions", "annotations") or "lxmert" not in dataset
        if used:
            sizes[key] = row["size"]
    return sizes


def row_of(name):
    """The row of config/README.md: known megabytes, files of unknown size, hub repositories."""
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    config |= yaml.safe_load((ROOT / f"config/{name}.yaml").read_text())
    config = complete_config(config, read_schema(ROOT / "workflow/schemas/config.schema.yaml"))
    sizes = sources(config["dataset"])
    known_weights = {row["url"]: row["size"] for row in read_versions("weights").values()}
    hubs = []
    for key, entry in config["weights"].items():
        if "hub" in entry:
            hubs.append(entry["hub"])
        else:
            sizes[key] = known_weights.get(entry["url"], "")
    if config["captions"]["enabled"]:
        hubs.append(config["captions"]["model"])
    known = sum(int(size) for size in sizes.values() if size)
    unknown = sorted(key for key, size in sizes.items() if not size)
    size = f"{known / 1e6:.0f} MB" if known else "-"
    cells = (size, ", ".join(unknown) or "-", ", ".join(hubs) or "-")
    return f"| {name} | {' | '.join(cells)} |"


@pytest.mark.parametrize("name", CONFIGS)
def test_sizes_are_stated_as_far_as_they_are_known(name):
    assert row_of(name) in (ROOT / "config/README.md").read_text().splitlines()
