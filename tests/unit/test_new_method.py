"""docs/how-to/new_method.md: its very example, in a copy of the library."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from conftest import DEMO, ROOT
from unimodal_checkpoints import save_text

TEXT = "redder rings"
SCRIPT = f"""
import json, sys, yaml
import mmlens
from mmlens.config import complete_config
from mmlens.config_schema import read_schema
folder, config, schema = sys.argv[1:]
config = complete_config(yaml.safe_load(open(config)), read_schema(schema))
options = {{"architecture": "text", "text": {TEXT!r}, "method": config["methods"]}}
given = config["explain"]["arguments"]
cases = [mmlens.explain(folder, arguments=arguments, **options) for arguments in ({{}}, given)]
print(json.dumps([case.maps["feature_norm"]["text"].tolist() for case in cases]))
"""


def blocks(kind):
    """The example's code blocks of one kind."""
    text = (ROOT / "docs/how-to/new_method.md").read_text()
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_example_of_the_docs_is_a_method_of_the_registry_by_one_file(tmp_path):
    (code,), (keys,) = blocks("python"), blocks("yaml")
    assert len(code.splitlines()) <= 25
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    path = tmp_path / re.match(r"# (\S+)\n", code)[1]
    assert not path.exists()
    path.write_text(code)
    config = yaml.safe_load(DEMO.read_text()) | yaml.safe_load(keys)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    save_text(tmp_path / "gpt2", "gpt2")
    schema = ROOT / "workflow/schemas/config.schema.yaml"
    shutil.copytree(ROOT / "config/presets", tmp_path / "config/presets")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path / "gpt2", tmp_path / "config.yaml", schema],
        env={"PYTHONPATH": str(tmp_path / "scripts"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    euclidean, absolute = json.loads(done.stdout.splitlines()[-1])
    assert len(set(euclidean)) == len(euclidean) > 1
    assert all(a > e > 0 for a, e in zip(absolute, euclidean, strict=True))


@pytest.mark.parametrize("page", ["docs/explanations.md", "docs/one_case.md"])
def test_links_lead_somewhere(page):
    path = ROOT / page
    links = re.findall(r"\]\(([^)#:]+)\)", path.read_text())
    assert all((path.parent / link).is_file() for link in links)
