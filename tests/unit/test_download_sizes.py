"""What the configurations of the studies download: config/README.md says what is known of it."""

import pytest
import yaml
from conftest import ROOT

from mmlens.datasets.versions import read_versions

CONFIGS = ("hateful_memes", "vqa_v2", "coco_zero_shot", "text_models")


def row_of(name):
    """The row of config/README.md: known megabytes, files of unknown size, hub repositories."""
    config = yaml.safe_load((ROOT / f"config/{name}.yaml").read_text())
    versions = read_versions(config["dataset"]["kind"])
    sizes = {key: row["size"] for key, row in versions.items()}
    known_weights = {row["url"]: row["size"] for row in read_versions("weights").values()}
    hubs = []
    for key, entry in config.get("weights", {}).items():
        if "hub" in entry:
            hubs.append(entry["hub"])
        else:
            sizes[key] = known_weights.get(entry["url"], "")
    known = sum(int(size) for size in sizes.values() if size)
    unknown = sorted(key for key, size in sizes.items() if not size)
    cells = (f"{known / 1e6:.0f} MB", ", ".join(unknown) or "-", ", ".join(hubs) or "-")
    return f"| {name} | {' | '.join(cells)} |"


@pytest.mark.parametrize("name", CONFIGS)
def test_sizes_are_stated_as_far_as_they_are_known(name):
    assert row_of(name) in (ROOT / "config/README.md").read_text().splitlines()
