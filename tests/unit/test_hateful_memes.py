"""Hateful Memes: versions of labels, shared ids, fine-grained labels, and the download."""

import json

import pytest
from archives import write_tar
from loopback import QUOTA, serving
from memes import SPLITS, annotations, images, jsonl, meme

from mmlens.datasets import DATASETS, DOWNLOADS
from mmlens.datasets.samples import build_samples
from mmlens.download import DownloadError, hosts, urls
from mmlens.table import DataError

FILES = {"train": "train.jsonl", "val": "dev_seen.jsonl", "test": "test_seen.jsonl"}
MIRROR, BACKUP = "someone/memes", "someone/more_memes"


def read(root, records, **settings):
    """The reading of {split: records}, in files of the official names."""
    files = {split: FILES[split] for split in records}
    for split, lines in records.items():
        (root / files[split]).write_bytes(jsonl(lines))
    return DATASETS.get("hateful_memes")({"root": str(root), "files": files, **settings})


def column(reading, name):
    return {split: counts[name] for split, counts in reading.counts.items()}


def numbered(negatives, positives):
    """As many records of each label; their content is of no account."""
    labels = [0] * negatives + [1] * positives
    return [meme(k, label=label) for k, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("split", "counts", "version"),
    [
        ("train", (5450, 3050), "phase1"),
        ("train", (5481, 3019), "phase2"),
        ("train", (5482, 3018), "unknown"),
        ("val", (253, 247), "both"),
        ("test", (510, 490), "both"),
        ("test", (253, 247), "unknown"),
    ],
)
def test_the_version_of_the_labels_is_told_by_their_counts(tmp_path, split, counts, version):
    records = {split: numbered(*counts)}
    reading = read(tmp_path, records)
    assert column(reading, "label_version") == {split: version}
    assert reading.problems == []
    for wanted in ("phase1", "phase2"):
        problems = read(tmp_path, records, labels=wanted).problems
        if version in (wanted, "both"):
            assert problems == []
            continue
        (problem,) = problems
        assert f"{tmp_path / FILES[split]}: {counts[0]} memes are labelled 0" in problem
        assert f"(labels {version}); dataset.labels: {wanted} expects " in problem
        assert "or set dataset.labels: any" in problem


def test_shared_ids_stay_in_the_earlier_split_and_are_counted(tmp_path):
    records = {
        "test": [meme(k) for k in (5, 6, 3)],
        "val": [meme(k) for k in (3, 4, 2)],
        "train": [meme(k) for k in (1, 2)],
    }
    reading = read(tmp_path, records)
    found = reading.samples.groupby("split")["sample_id"].agg(list).to_dict()
    assert found == {
        "train": ["00001", "00002"],
        "val": ["00003", "00004"],
        "test": ["00005", "00006"],
    }
    assert column(reading, "shared_ids_dropped") == {"test": 1, "val": 1, "train": 0}
    for name in images(range(1, 7)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(images([1])["img/00001.png"])
    _, _, quality = build_samples(reading)
    assert quality.columns.tolist()[-2:] == ["shared_ids_dropped", "label_version"]
    assert quality.set_index("split")["shared_ids_dropped"].sum() == 2


@pytest.mark.parametrize("change", [{"label": 0}, {"text": "b"}, {"img": "b.png"}, {"label": True}])
def test_an_id_with_two_contents_stays_an_error(tmp_path, change):
    reading = read(tmp_path, {"train": [meme(1), meme(2)], "test": [meme(1, **change), meme(4)]})
    assert column(reading, "shared_ids_dropped") == {"train": 0, "test": 0}
    with pytest.raises(DataError, match=r"test_seen\.jsonl line 1: duplicate id '00001', first in"):
        build_samples(reading)


def test_an_id_that_occurs_twice_in_a_split_stays_an_error(tmp_path):
    reading = read(tmp_path, {"train": [meme(1), meme(1)]})
    assert len(reading.samples) == 2
    with pytest.raises(DataError, match=r"train\.jsonl line 2: duplicate id '00001'"):
        build_samples(reading)


def fine(number, pc, attack, **changes):
    """A record as published: the id is a number, hate is a list too."""
    record = {"id": number, "gold_pc": pc, "gold_attack": attack, "gold_hate": ["hateful"]}
    return {**record, "img": f"img/{number:05d}.png", "text": "made up", **changes}


def test_fine_grained_labels_become_groups(tmp_path):
    (tmp_path / "fine").mkdir()
    labels = [
        fine(3, ["religion", "nationality"], ["mocking"]),
        fine(1, ["pc_empty"], ["attack_empty"]),
        fine(9, ["race"], ["slurs"]),
        fine(5, ["sex"], ["slurs"]),
    ]
    (tmp_path / "fine/train.json").write_bytes(jsonl(labels))
    records = {"train": [meme(k) for k in (1, 2, 3)], "test": [meme(5), meme(6)]}
    reading = read(tmp_path, records, fine_grained={"train": "fine/train.json"})
    assert reading.problems == []
    found = reading.samples.set_index("sample_id")
    assert found["group_protected_category"].to_dict() == {
        "00001": "pc_empty",
        "00002": "unlabelled",
        "00003": "nationality|religion",
        "00005": "unlabelled",  # no labels were given for its split
        "00006": "unlabelled",
    }
    assert found["group_attack"].tolist()[:3] == ["attack_empty", "unlabelled", "mocking"]


def test_faults_of_fine_grained_labels_are_problems(tmp_path):
    lines = [
        json.dumps(fine(1, ["race"], ["slurs"])),
        "{",
        json.dumps({"id": 2, "gold_pc": ["race"]}),
        json.dumps(fine(1, ["sex"], ["slurs"])),
        json.dumps(fine(2, [], ["slurs"])),
        json.dumps(fine(2, [7], ["slurs"])),
        json.dumps(fine(2, ["sex"], ["slurs"], id="2")),
    ]
    path = tmp_path / "fine.json"
    path.write_text("\n".join(lines))
    records = {"train": [meme(1), meme(2)], "test": [meme(3), meme(4)]}
    problems = read(tmp_path, records, fine_grained={"train": "fine.json"}).problems
    expected = [
        f"{path} line 2: invalid JSON",
        f"{path} line 3: no key gold_attack",
        f"{path} line 4: id 1 occurs again with other labels; keep one",
        f"{path} line 5: gold_pc is [], expected a list of texts",
        f"{path} line 6: gold_pc is [7], expected a list of texts",
        f'{path} line 7: id is "2", expected a whole number',
    ]
    assert len(problems) == len(expected)
    for problem, start in zip(problems, expected, strict=True):
        assert problem.startswith(start)
    path.write_bytes(jsonl([fine(1, ["race"], ["slurs"])]))
    (problem,) = read(tmp_path, records, fine_grained={"test": "fine.json"}).problems
    assert problem.startswith(f"{path}: has none of the ids of split test; give the labels of")
    (problem,) = read(tmp_path, records, fine_grained={"val": "gone.json"}).problems
    assert "gone.json: no such file; expected a jsonl file (dataset.fine_grained.val)" in problem


@pytest.fixture
def host(monkeypatch):
    """A hub with the annotations and, in the mirror, all images but 2 and 13."""
    monkeypatch.setattr(urls, "BACKOFF", 0.001)
    monkeypatch.setattr(hosts, "BACKOFF", 0.001)
    with serving() as server:
        held = images()
        for number in (2, 13):
            held.pop(f"img/{number:05d}.png")
        server.add_to_hub(MIRROR, {**annotations(), **held}, revision="v1")
        server.add_to_hub(BACKUP, images([2, 13, 5]))
        yield server


def fetch(server, root, *, archive=None, backup=BACKUP, **settings):
    sources = {"endpoint": server.url(""), "repo": MIRROR, "revision": "v1", "backup": backup}
    sources |= {"archive": archive and server.url(archive), "fine_grained": server.url("/fine")}
    given = {"root": str(root), "files": FILES, "accept_licence": True, "sources": sources}
    return DOWNLOADS.get("hateful_memes")({**given, **settings})


def problems_of(*arguments, **options):
    with pytest.raises(DownloadError) as caught:
        fetch(*arguments, **options)
    return caught.value.problems


def have(root):
    """{name: bytes} of the images below root."""
    return {f"img/{path.name}": path.read_bytes() for path in (root / "img").glob("[!.]*")}


def archive_of(server, folder, files, path="/img.tar.gz"):
    server.files[path] = write_tar(folder / "made.tar.gz", files).read_bytes()
    return path


def test_nothing_is_asked_for_before_the_licence_is_accepted(host, tmp_path):
    for given in (False, None, "true"):
        (problem,) = problems_of(host, tmp_path / "root", accept_licence=given)
        assert f"dataset.accept_licence: found {given}, expected true; nothing" in problem
        assert "research only, no redistribution" in problem
        assert "dataset.root" in problem
    assert host.asked == []
    assert not (tmp_path / "root").exists()


def test_images_come_one_by_one_from_the_mirror_and_the_backup(host, tmp_path, capsys):
    records = fetch(host, tmp_path)
    assert have(tmp_path) == images()
    assert f"0 archive, 14 {MIRROR}, 2 {BACKUP}" in capsys.readouterr().out
    by_name = {record["path"].removeprefix(f"{tmp_path}/"): record for record in records}
    assert set(by_name) == {*SPLITS, *images()}
    assert f"/{BACKUP}/resolve/main/" in by_name["img/00013.png"]["url"]
    assert f"/{MIRROR}/resolve/v1/" in by_name["img/00005.png"]["url"]
    assert {record["licence"] for record in records} == {
        "Hateful Memes dataset licence: research only, no redistribution"
    }
    host.asked.clear()
    assert fetch(host, tmp_path) == records
    assert host.asked == []


def test_missing_images_of_the_archive_come_from_mirror_and_backup(host, tmp_path):
    held = images([k for k in range(1, 17) if k not in (2, 3)])
    path = archive_of(host, tmp_path, {**held, "train.jsonl": b"other", "img/99999.png": b"no"})
    root = tmp_path / "root"
    records = fetch(host, root, archive=path)
    assert have(root) == images()  # and nothing else that the archive holds
    assert (root / "train.jsonl").read_bytes() == annotations()["train.jsonl"]
    found = {record["path"].removeprefix(f"{root}/") for record in records}
    assert found == {*SPLITS, "img.tar.gz", "img/00002.png", "img/00003.png"}
    images_asked = {p for method, p, _ in host.asked if method == "GET" and p.endswith(".png")}
    assert len(images_asked) == 2
    host.asked.clear()
    assert fetch(host, root, archive=path) == records
    assert host.asked == []
    (root / "img/00003.png").write_bytes(b"damaged")  # one that was downloaded by itself
    fetch(host, root, archive=path)
    assert have(root) == images()


def test_all_images_that_no_source_has_are_named_at_once(host, tmp_path):
    (problem,) = problems_of(host, tmp_path, backup=None)
    assert problem.startswith(f"2 images are in none of the sources; put them below {tmp_path}")
    assert problem.endswith(": img/00002.png img/00013.png")
    assert len(have(tmp_path)) == 14  # what came stays
    for name, content in images([2, 13]).items():
        (tmp_path / name).write_bytes(content)
    fetch(host, tmp_path, backup=None)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (QUOTA, "the quota of downloads is exceeded"),
        (b"\x1f\x8b" + bytes(99), "no zip or tar archive, or not a whole one"),
        (None, "404"),
    ],
)
def test_a_useless_archive_is_told_and_made_up_for(host, tmp_path, capsys, content, found):
    if content:
        host.files["/img.tar.gz"] = content
    fetch(host, tmp_path, archive="/img.tar.gz")
    assert have(tmp_path) == images()
    assert found in capsys.readouterr().out
    # Without the backup it is one of the reasons for what is missing.
    problems = problems_of(host, tmp_path / "b", archive="/img.tar.gz", backup=None)
    assert found in problems[0]
    assert "2 images are in none of the sources" in problems[1]


def test_an_archive_that_leads_out_of_the_folder_is_not_unpacked(host, tmp_path, capsys):
    path = archive_of(host, tmp_path, {**images(), "../../evil": b"evil"})
    root = tmp_path / "a/b"
    fetch(host, root, archive=path)
    assert f"member '../../evil' leads out of {root}; not unpacked" in capsys.readouterr().out
    assert not list(tmp_path.rglob("evil"))
    assert have(root) == images()


@pytest.mark.parametrize("name", ["../evil.png", "/tmp/evil.png", "img/../../evil.png"])
def test_annotations_cannot_name_images_outside_of_the_folder(host, tmp_path, name):
    evil = jsonl([meme(1), meme(2, img=name)])
    host.add_to_hub(MIRROR, {"train.jsonl": evil}, revision="v1")
    (problem,) = problems_of(host, tmp_path)
    assert "evil.png would lie outside of" in problem
    assert not any(path.endswith(".png") for _, path, _ in host.asked)


def test_fine_grained_labels_are_downloaded_with_their_own_licence(host, tmp_path):
    host.files["/fine/train.json"] = content = jsonl([fine(1, ["race"], ["slurs"])])
    records = fetch(host, tmp_path, fine_grained={"train": "fine_grained/train.json"})
    assert (tmp_path / "fine_grained/train.json").read_bytes() == content
    (record,) = [r for r in records if r["path"].endswith("train.json")]
    assert record["licence"] == "Apache-2.0"


def test_an_interrupted_mirror_goes_on_where_it_was(host, tmp_path):
    base = f"/datasets/{MIRROR}/resolve/v1/img/"
    refused = [f"{base}{k:05d}.png" for k in (4, 7)]
    host.faults = {path: [{"status": 500, "body": b""}] * 9 for path in refused}
    problems = problems_of(host, tmp_path)
    assert [problem.split(": ")[0] for problem in problems] == [host.url(p) for p in refused]
    assert len(have(tmp_path)) == 14
    host.faults, host.asked = {}, []
    fetch(host, tmp_path)
    asked = {path for method, path, _ in host.asked if method == "GET"}
    assert asked == set(refused)
