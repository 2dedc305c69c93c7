"""VisualBERT: the names and shapes of MMF's file for Hateful Memes (../shared)."""

import json

import pytest
import torch
from conftest import SHARED

from mmlens.datasets.vocabulary import PAD
from mmlens.models import MODELS
from mmlens.models.visual_bert import PARTS, PUBLISHED, published_name

FOLDER = SHARED / "golden/models/visual_bert"
WORDS = 30522

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"{FOLDER} is missing")


class Features:
    width, grid = 2048, None


def test_the_published_file_has_the_names_and_shapes_of_the_full_size_network():
    wanted = json.loads((FOLDER / "keys_mmf_hateful_memes.json").read_text())
    published = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
    published |= {"intermediate_size": 3072, "max_position_embeddings": 512}
    with torch.device("meta"):
        model = MODELS.get("visual_bert")(WORDS, 128, Features, sizes=published)
    own = {name: list(tensor.shape) for name, tensor in model.network.state_dict().items()}
    found = {published_name(name): shape for name, shape in wanted.items()}
    assert len(found) == len(wanted) == 209
    assert {name: own.get(name) for name in found} == found
    assert all(name.startswith("cls.") for name in own if name not in found)
    assert all(name.startswith(PARTS) for name in own)
    older = [name.replace("model.bert.", "bert.bert.") for name in wanted]
    older = [name.replace("model.classifier.", "bert.classifier.") for name in older]
    assert [published_name(name) for name in older] == list(found)
    assert PUBLISHED == {"visual_embedding_dim": 2048, "pad_token_id": PAD}
