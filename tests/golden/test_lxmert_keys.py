"""LXMERT: the names and shapes of the published files (../shared)."""

import json

import pytest
import torch
from conftest import SHARED
from transformers import LxmertConfig, LxmertForPreTraining

from mmlens.datasets.answers import published_vocabulary
from mmlens.models.lxmert import ANSWERS, KNOWN, PARTS, published_name

FOLDER = SHARED / "golden/models/lxmert"
HEADS = {"official_pretrained_LXRT": 9500, "official_vqa_finetuned": ANSWERS}
HEADS |= {"transformers_question_answering": ANSWERS}

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"{FOLDER} is missing")


@pytest.mark.parametrize("manifest", HEADS)
def test_published_files_have_the_names_and_shapes_of_the_full_size_network(manifest):
    wanted = json.loads((FOLDER / f"keys_{manifest}.json").read_text())
    with torch.device("meta"):
        config = LxmertConfig(num_qa_labels=HEADS[manifest], task_obj_predict=False)
        network = LxmertForPreTraining(config)
    own = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {published_name(name): shape for name, shape in wanted.items()}
    assert len(found) == len(wanted)
    assert {published_name(f"module.{name}") for name in wanted} == set(found)
    read = {name: shape for name, shape in found.items() if not name.startswith(KNOWN)}
    assert {name: own.get(name) for name in read} == read
    missing = [name for name in own if name not in read]
    if manifest == "official_pretrained_LXRT":
        assert missing == []
        assert len(found) - len(read) == 10
    else:
        assert len(found) == len(read) == 455
        assert all(name.startswith("cls.") for name in missing)
    assert all(name.startswith(PARTS) for name in own)


def test_the_answers_are_those_of_the_published_list():
    assert json.loads((FOLDER / "vqa_label2ans.json").read_text()) == published_vocabulary("lxmert")
