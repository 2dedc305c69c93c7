"""What models and extractors start from: entries of section weights, fetched and converted once.

An entry becomes a folder of plain data: tensors as safetensors, beside the settings, tokenizer and
image processor of a repository. Files of torch are read as data alone, without running code, and
written anew; `weights.json` says where everything is from and what was converted.
"""

import re
from collections import Counter
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from .download import describe_on_hub, extract, fetch_file, fetch_from_drive, fetch_from_hub
from .files import atomic, sha256_file
from .table import DataError
from .weights import read_content, state_of

TENSORS = "model.safetensors"
REPORT = "weights.json"
SETTINGS = (".json", ".txt", ".model", ".jinja")
# The tensors of a repository, in the order in which they are preferred.
SAFE = (r"model\.safetensors", r"model-\d+-of-\d+\.safetensors")
TORCH = (r"pytorch_model\.bin", r"pytorch_model-\d+-of-\d+\.bin")
ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")
FILES = (".safetensors", ".bin", ".ckpt", ".pt", ".pth", ".th")
DRIVE = "drive.google.com"


def fetch_weights(name, source, folder, downloads):
    """Bring what an entry of section weights names to a folder.

    Parameters
    ----------
    name : of the entry, for messages
    source : dict with hub, revision and tensors, or url, size, sha256 and licence
    folder : of the result; whatever else lies in it is removed
    downloads : folder of the files as they came, which are not asked for again while they are there

    Returns
    -------
    dict, the report: source, revision and licence, and for every file name and sha256; for files
    of tensors also their number, and how many there are of each dtype, and what they were made of

    Raises
    ------
    DataError, DownloadError
    """
    folder, downloads = Path(folder), Path(downloads)
    folder.mkdir(parents=True, exist_ok=True)
    fetch = fetch_repository if "hub" in source else fetch_single
    facts, originals = fetch(name, source, folder, downloads)
    if originals:
        state = {}
        for path in originals:
            state |= state_of(read_content(path), path)
        write_tensors(folder / TENSORS, state)
        facts["made_of"] = [{"name": p.name, "sha256": sha256_file(p)} for p in originals]
    wanted = set(facts.pop("files")) | ({TENSORS} if originals else set())
    for path in folder.iterdir():
        if path.is_file() and not path.name.startswith(".") and path.name not in wanted:
            path.unlink()
    return facts | {"files": [describe(folder / file) for file in sorted(wanted)]}


def fetch_repository(name, source, folder, downloads):
    """Fetch the files at the top of a repository of a model hub.

    Returns
    -------
    facts of the report, with files (names of those in `folder`); paths of the files of torch that
    its tensors are to be made of
    """
    found = describe_on_hub(source["hub"], source.get("revision", "main"))
    top = [file for file in found["files"] if "/" not in file]
    safe, unsafe = matching(top, SAFE), matching(top, TORCH)
    if source.get("tensors") is False:
        safe, unsafe = [], []
    elif not safe and not unsafe:
        problem = (
            f"weights.{name}: {source['hub']} holds no {TENSORS} and no pytorch_model.bin, only "
            f"{', '.join(top) or 'nothing'}; name a repository in the format of save_pretrained, "
            "or set tensors: false for its tokenizer alone"
        )
        raise DataError("weights", [problem])
    settings = [file for file in top if file.endswith(SETTINGS)]
    if len(safe) < 2:  # an index of several files would name those that are not here
        settings = [file for file in settings if not file.endswith(".index.json")]
    where = {key: found[key] for key in ("endpoint", "revision")} | {"repo_type": "model"}
    for file in settings + safe:
        fetch_from_hub(source["hub"], file, folder, **where)
    originals = [] if safe else unsafe
    for file in originals:
        fetch_from_hub(source["hub"], file, downloads, **where)
    facts = {"source": f"{found['endpoint']}/{source['hub']}", "files": settings + safe}
    facts |= {key: found[key] for key in ("revision", "licence")}
    return facts, [downloads / file for file in originals]


def matching(names, patterns):
    """Those of `names` that match the first pattern that any of them matches, sorted."""
    chosen = (sorted(name for name in names if re.fullmatch(p, name)) for p in patterns)
    return next(filter(None, chosen), [])


def fetch_single(name, source, folder, downloads):
    """Fetch one file, or an archive with one file of tensors; as `fetch_repository`."""
    url = source["url"]
    address = urlsplit(url)
    file = PurePosixPath(address.path).name or TENSORS
    fetch = fetch_file
    if address.hostname == DRIVE:
        fetch, file = fetch_from_drive, "weights.pth"  # whose addresses hold no names
    record = fetch(url, downloads / file, size=source.get("size"), sha256=source.get("sha256"))
    path = Path(record["path"])
    if file.endswith(ARCHIVES):
        path = unpacked(name, path)
    facts = {"source": url, "revision": "", "licence": source.get("licence", ""), "files": []}
    return facts | {"downloaded": {key: record[key] for key in ("size", "sha256")}}, [path]


def unpacked(name, archive):
    """Path of the one file of tensors in an archive, unpacked beside it."""
    found = extract(archive, archive.with_name("unpacked"), members=is_weights)
    if len(found) != 1:
        problem = (
            f"weights.{name}: {archive} holds {', '.join(p.name for p in found) or 'none'}, "
            f"expected one file of tensors ({', '.join(FILES)}); unpack it by hand and set path"
        )
        raise DataError("weights", [problem])
    return found[0]


def is_weights(member):
    """Whether a member of an archive is named like a file of tensors."""
    return PurePosixPath(member).suffix in FILES


def write_tensors(path, state):
    """Write {name: tensor} as safetensors; tensors that share memory become copies."""
    copies = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in state.items()
    }
    with atomic(path) as temporary:
        save_file(copies, temporary, metadata={"format": "pt"})


def describe(path):
    """What the report says of one file."""
    facts = {"name": path.name, "sha256": sha256_file(path)}
    if path.suffix != ".safetensors":
        return facts
    with safe_open(path, "pt") as content:
        dtypes = Counter(content.get_slice(name).get_dtype() for name in content.keys())  # noqa: SIM118
    return facts | {"tensors": dtypes.total(), "dtypes": dict(dtypes)}
