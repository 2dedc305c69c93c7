"""Weights from hubs and addresses: what is fetched, refused, converted and reported."""

import hashlib
import io
import json

import pytest
import torch
from archives import write_tar
from loopback import COMMIT, serving
from safetensors.torch import load_file
from safetensors.torch import save as safe_bytes
from transformers import BertConfig, BertModel

from mmlens.checkpoints import fetch_weights
from mmlens.download import DownloadError, hosts, urls
from mmlens.table import DataError

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.steps": torch.tensor([3, 4])}


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(urls, "BACKOFF", 0.001)
    monkeypatch.setattr(hosts, "BACKOFF", 0.001)
    with serving() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url(""))
        yield running


def torch_bytes(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def fetched(tmp_path, **source):
    return fetch_weights("own", source, tmp_path / "weights/own", tmp_path / "downloads/own")


def names(folder):
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))


def problems_of(tmp_path, error=DataError, **source):
    with pytest.raises(error) as caught:
        fetched(tmp_path, **source)
    return caught.value.problems


def same(state, other=STATE):
    return state.keys() == other.keys() and all(torch.equal(state[k], other[k]) for k in state)


def test_repository_comes_without_what_no_model_reads(server, tmp_path):
    tensors = safe_bytes(STATE)
    files = {"model.safetensors": tensors, "config.json": b"{}", "vocab.txt": b"[PAD]\n"}
    others = {"pytorch_model.bin": b"x", "README.md": b"x", "onnx/config.json": b"x"}
    server.add_model_to_hub("you/bert", files | others, "v1", card={"license": "mit"})
    report = fetched(tmp_path, hub="you/bert", revision="v1")
    folder = tmp_path / "weights/own"
    assert names(folder) == sorted(files)
    assert (folder / "model.safetensors").read_bytes() == tensors
    assert report["source"] == server.url("/you/bert")
    assert (report["revision"], report["licence"]) == (COMMIT, "mit")
    described = {file["name"]: file for file in report["files"]}
    assert described["model.safetensors"] == {
        "name": "model.safetensors",
        "sha256": sha256(tensors),
        "tensors": 2,
        "dtypes": {"F32": 1, "I64": 1},
    }
    assert described["config.json"] == {"name": "config.json", "sha256": sha256(b"{}")}
    assert "made_of" not in report

    server.asked.clear()
    assert fetched(tmp_path, hub="you/bert", revision="v1") == report
    assert [path for _, path, _ in server.asked] == ["/api/models/you/bert/revision/v1"]


def test_repository_of_torch_files_is_converted_for_the_stock_classes(server, tmp_path):
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    network = BertModel(BertConfig(**sizes, vocab_size=11, intermediate_size=8))
    halves = [{}, {}]
    for number, (name, tensor) in enumerate(network.state_dict().items()):
        halves[number % 2][name] = tensor
    files = {
        f"pytorch_model-0000{number}-of-00002.bin": torch_bytes(half)
        for number, half in enumerate(halves, 1)
    }
    config = {"config.json": network.config.to_json_string().encode()}
    index = {"pytorch_model.bin.index.json": b"{}"}
    server.add_model_to_hub("you/old", files | config | index)
    report = fetched(tmp_path, hub="you/old")
    folder = tmp_path / "weights/own"
    assert names(folder) == ["config.json", "model.safetensors"]
    assert report["made_of"] == [{"name": n, "sha256": sha256(c)} for n, c in files.items()]
    again = BertModel.from_pretrained(folder, use_safetensors=True)
    assert same(again.state_dict(), network.state_dict())


def test_a_tokenizer_alone(server, tmp_path):
    files = {"model.safetensors": safe_bytes(STATE), "vocab.txt": b"[PAD]\n", "config.json": b"{}"}
    server.add_model_to_hub("you/bert", files)
    fetched(tmp_path, hub="you/bert", tensors=False)
    assert names(tmp_path / "weights/own") == ["config.json", "vocab.txt"]


def test_another_revision_leaves_nothing_of_the_one_before(server, tmp_path):
    tensors = {"model.safetensors": safe_bytes(STATE)}
    server.add_model_to_hub("you/bert", tensors | {"merges.txt": b"a"})
    fetched(tmp_path, hub="you/bert")
    server.add_model_to_hub("you/bert", tensors | {"vocab.txt": b"b"}, "v2")
    fetched(tmp_path, hub="you/bert", revision="v2")
    assert names(tmp_path / "weights/own") == ["model.safetensors", "vocab.txt"]


def test_a_repository_without_tensors_or_none_at_all(server, tmp_path):
    server.add_model_to_hub("you/onnx", {"model.onnx": b"x"})
    (problem,) = problems_of(tmp_path, hub="you/onnx")
    assert "weights.own: you/onnx holds no model.safetensors and no pytorch_model.bin" in problem
    assert "only model.onnx; name a repository" in problem
    (problem,) = problems_of(tmp_path, DownloadError, hub="you/nothing")
    assert f"{server.url('/you/nothing')} at main: status 404" in problem
    assert "path in its entry of section weights" in problem


@pytest.mark.parametrize("container", [None, "model", "state_dict"])
def test_a_file_of_torch_is_converted(server, tmp_path, container):
    shared = {**STATE, "b.weight": STATE["a.weight"], "c": STATE["a.weight"].T}
    content = torch_bytes({container: shared, "epoch": 3} if container else shared)
    server.files["/files/best.pth"] = content
    report = fetched(tmp_path, url=server.url("/files/best.pth"), licence="MIT")
    assert names(tmp_path / "weights/own") == ["model.safetensors"]
    assert same(load_file(tmp_path / "weights/own/model.safetensors"), shared)
    assert report["made_of"] == [{"name": "best.pth", "sha256": sha256(content)}]
    assert report["downloaded"] == {"size": len(content), "sha256": sha256(content)}
    assert report["licence"] == "MIT"
    (file,) = report["files"]
    assert (file["tensors"], file["dtypes"]) == (4, {"F32": 3, "I64": 1})
    json.dumps(report)

    server.asked.clear()
    assert fetched(tmp_path, url=server.url("/files/best.pth"), licence="MIT") == report
    assert server.asked == []


def test_a_download_goes_on_where_it_was_cut(server, tmp_path):
    server.files["/best.pth"] = torch_bytes({"a": torch.zeros(100_000)})
    server.faults["/best.pth"] = [{"cut": 200_000}]
    fetched(tmp_path, url=server.url("/best.pth"))
    first, second = server.gets("/best.pth")
    assert first is None
    assert second.startswith("bytes=")


def test_another_hash_than_expected(server, tmp_path):
    server.files["/best.pth"] = torch_bytes(STATE)
    (problem,) = problems_of(tmp_path, DownloadError, url=server.url("/best.pth"), sha256="0" * 64)
    assert f"came, expected {'0' * 64}" in problem
    assert names(tmp_path / "weights/own") == []


def test_an_archive_with_one_file_of_tensors(server, tmp_path):
    members = {"./model.pth": torch_bytes({"model." + k: v for k, v in STATE.items()})}
    archive = write_tar(tmp_path / "made.tar.gz", {**members, "./config.yaml": b"a: 1"})
    server.files["/vilbert.tar.gz"] = archive.read_bytes()
    report = fetched(tmp_path, url=server.url("/vilbert.tar.gz"))
    assert report["made_of"][0]["name"] == "model.pth"
    state = load_file(tmp_path / "weights/own/model.safetensors")
    assert sorted(state) == ["model.a.steps", "model.a.weight"]

    archive = write_tar(tmp_path / "two.tar.gz", {"a.pth": b"a", "b/b.bin": b"b"})
    server.files["/two.tar.gz"] = archive.read_bytes()
    (problem,) = problems_of(tmp_path / "two", url=server.url("/two.tar.gz"))
    assert "two.tar.gz holds a.pth, b.bin, expected one file of tensors" in problem


class Shout:
    """Would write a file, were it unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_nothing_in_a_file_is_run(server, tmp_path):
    proof = tmp_path / "was_run"
    server.files["/evil.pth"] = torch_bytes({"model": STATE, "callback": Shout(proof)})
    try:
        fetched(tmp_path, url=server.url("/evil.pth"))
    except DataError as error:  # or what is data is taken and the rest left
        assert "evil.pth: cannot be read" in str(error)  # noqa: PT017
    assert not proof.exists()
    server.files["/list.pth"] = torch_bytes([1, 2])
    (problem,) = problems_of(tmp_path / "list", url=server.url("/list.pth"))
    assert "list.pth: no table of tensors" in problem
