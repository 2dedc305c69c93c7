"""Files of weights that hold more than tensors: read as data, without running code."""

import os
import pickle
import sys
import zipfile
from collections import OrderedDict
from types import ModuleType

import pytest
import torch
from transformers import ViTConfig, ViTModel

from mmlens.models.folders import weights_file
from mmlens.table import DataError
from mmlens.weights import read_content, state_of

STATE = {
    "matrix": torch.arange(6.0).view(2, 3),
    "transposed": torch.arange(6.0).view(2, 3).T,
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "half": torch.ones(2, dtype=torch.bfloat16),
    "counter": torch.tensor(7),
}


@pytest.fixture
def framework(monkeypatch):
    """Classes of a training framework, which is there when a file is written and not afterwards."""
    module = ModuleType("framework")
    for name, base in (("Callback", object), ("Settings", dict), ("Names", list), ("Mark", set)):
        setattr(module, name, type(name, (base,), {"__module__": "framework"}))
    monkeypatch.setitem(sys.modules, "framework", module)
    return module


def lightning(framework):
    """What Lightning writes: classes as keys, settings in containers of its own."""
    callback, settings = framework.Callback(), framework.Settings(lr=1e-5, loss={"vqa": 1})
    callback.best = torch.tensor(0.7)
    return {
        "epoch": 9,
        "state_dict": OrderedDict(STATE),
        "callbacks": {framework.Callback: {"best": torch.tensor(0.7)}},
        "hyper_parameters": {"config": settings, "names": framework.Names(["a", "b"])},
        "marks": [framework.Mark({1, 2}), callback, os.getcwd, torch.float16, {1, 2}],
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 2020"])
def test_tensors_beside_foreign_classes_are_read(tmp_path, framework, monkeypatch, zipped):
    path = tmp_path / "model.ckpt"
    torch.save(lightning(framework), path, _use_new_zipfile_serialization=zipped)
    monkeypatch.delitem(sys.modules, "framework")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    found = state_of(read_content(path), path)
    assert list(found) == list(STATE)
    for name, value in STATE.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)
    assert read_content(path)["epoch"] == 9
    assert "framework" not in sys.modules


class Code:
    """Unpickled as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def attacks(marker):
    """Values whose ordinary unpickling makes the file `marker`."""
    command = f"open({str(marker)!r}, 'w').close()"
    return {
        "call": Code(exec, command),
        "shell": Code(os.system, f"touch {marker}"),
        "import": Code(__import__, "this"),
        "nested": OrderedDict(a=[Code(eval, command)]),
        "key": {Code(exec, command): 1},
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 2020"])
@pytest.mark.parametrize("attack", attacks(""))
def test_code_in_a_file_does_not_run(tmp_path, attack, zipped):
    marker, path = tmp_path / "ran", tmp_path / "model.ckpt"
    content = {"state_dict": STATE, "extra": attacks(marker)[attack]}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    sys.modules.pop("this", None)
    found = state_of(read_content(path), path)
    assert torch.equal(found["matrix"], STATE["matrix"])
    assert not marker.exists()
    assert "this" not in sys.modules
    if attack in ("call", "shell"):  # the file would run it
        torch.load(path, weights_only=False)
        assert marker.exists()


def test_tensors_of_several_files_are_read_by_their_index(tmp_path):
    network = ViTModel(ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2))
    network.save_pretrained(tmp_path / "one")
    network.save_pretrained(tmp_path / "several", max_shard_size="20KB")
    assert not (tmp_path / "several/model.safetensors").exists()
    one, several = (read_content(weights_file(tmp_path / name)) for name in ("one", "several"))
    assert several.keys() == one.keys()
    assert all(torch.equal(several[name], value) for name, value in one.items())


def test_code_in_the_place_of_tensors_is_no_table_of_tensors(tmp_path):
    torch.save({"state_dict": {"a": Code(print, "ran")}}, tmp_path / "model.ckpt")
    with pytest.raises(DataError, match="no table of tensors"):
        state_of(read_content(tmp_path / "model.ckpt"), "model.ckpt")


BUILDER = b"ctorch._utils\n_rebuild_tensor_v2\n"
SET = b"N}X\x04\x00\x00\x00evilK\x01s\x86b"  # setattr(found, "evil", 1)
# A pickle can also set attributes of what it finds, or ask the builders for other things.
CRAFTED = {
    "attribute of a builder": b"\x80\x02" + BUILDER + SET + b".",
    "attribute of a class": b"\x80\x02ccollections\nOrderedDict\n" + SET + b".",
    "name with dots": b"\x80\x04\x8c\x0btorch._utils\x8c\x10_rebuild_tensor_v2.__globals__\x93.",
    "tensor of nothing": b"\x80\x02" + BUILDER + b"(K\x01K\x02tR.",
    "cut": b"\x80\x02}X\x04",
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
@pytest.mark.parametrize("crafted", CRAFTED)
def test_crafted_pickles_change_nothing(tmp_path, crafted):
    path = tmp_path / "model.ckpt"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", CRAFTED[crafted])
        file.writestr("archive/version", "3")
    with pytest.raises(DataError):
        state_of(read_content(path), path)
    assert not hasattr(torch._utils._rebuild_tensor_v2, "evil")
    assert not hasattr(OrderedDict, "evil")


def test_a_script_with_code_of_its_own_is_refused(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "model.pt")
    with pytest.warns(UserWarning, match="TorchScript"), pytest.raises(DataError, match="read"):
        read_content(tmp_path / "model.pt")
