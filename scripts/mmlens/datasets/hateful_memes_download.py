"""Download of the Hateful Memes, after their licence was accepted."""

from collections import Counter
from functools import partial
from pathlib import Path, PurePosixPath

from ..download import (
    DownloadError,
    NotFoundError,
    extract,
    fetch_file,
    fetch_from_drive,
    fetch_from_hub,
    is_here,
    known_record,
    progress_bar,
    run_all,
)
from . import register_download
from .hateful_memes import read_files
from .versions import expected, read_versions

KIND = "hateful_memes"
ARCHIVE = "img.tar.gz"
WORKERS = 8
ABSENT = "in no source"


@register_download("hateful_memes")
def fetch(settings):
    """Download the annotations and the images that they name.

    The jsonl files come from a repository on a hub; the images from one archive on Google Drive
    if there is one, those that it lacks (or all) one by one from the repository, and what that
    lacks from the backup. Images that are there already, from wherever, are kept.

    Parameters
    ----------
    settings : dict
        root: folder to download to; files, fine_grained: as for the reader; accept_licence: must
        be true; sources: endpoint, repo, revision, backup, archive, fine_grained.

    Returns
    -------
    list of dict: path, url, size, sha256, etag, licence; images out of the archive have no
    record of their own

    Raises
    ------
    DownloadError, if anything is missing in the end with all that is
    """
    versions = read_versions(KIND)
    licence = versions["annotations"]["licence"]
    if settings.get("accept_licence") is not True:
        raise DownloadError(
            [
                f"dataset.accept_licence: found {settings.get('accept_licence')}, expected true; "
                f"nothing was downloaded. {licence}. Read it in LICENSE.txt at "
                f"{versions['annotations']['url']}, and set dataset.accept_licence: true if you "
                f"accept it, or dataset.root to a folder with your own copy"
            ]
        )
    root, sources = Path(settings["root"]), settings["sources"]
    hub = {"endpoint": sources["endpoint"], "revision": sources["revision"]}
    names = sorted(set(settings["files"].values()))
    records = [fetch_from_hub(sources["repo"], name, root, **hub) for name in names]
    records += fetch_images(image_names(settings), root, sources)
    labels = fetch_fine_grained(settings, root)
    return [{**record, "licence": licence} for record in records] + [
        {**record, "licence": versions["fine_grained_train"]["licence"]} for record in labels
    ]


def fetch_fine_grained(settings, root):
    """Records of the files of fine-grained labels, which are published under their own licence."""
    records = []
    for name in sorted(set((settings.get("fine_grained") or {}).values())):
        url = f"{settings['sources']['fine_grained']}/{PurePosixPath(name).name}"
        records.append(fetch_file(url, root / name, **expected(KIND, url)))
    return records


def image_names(settings):
    """Paths of all images that the annotations name, relative to root, sorted.

    Raises
    ------
    DownloadError for names that lead out of root. What else is wrong with the annotations is
    left to their reader.
    """
    root = Path(settings["root"])
    images = [Path(image) for image in set(read_files(settings).samples["image"]) if image]
    outside = [p for p in images if not p.is_relative_to(root) or ".." in p.parts]
    if outside:
        raise DownloadError([f"image {path} would lie outside of {root}" for path in outside])
    return sorted(path.relative_to(root).as_posix() for path in images)


def fetch_images(names, root, sources):
    """Records of the archive and of the images that came one by one.

    Raises
    ------
    DownloadError that names every image that no source has.
    """
    problems = []
    missing = [name for name in names if not is_here(root / name)]
    if missing and sources["archive"]:
        try:
            fetch_archive(sources["archive"], root, missing)
        except DownloadError as error:
            problems += error.problems  # of no account if the other sources have all images
            print(f"{error}\ngoing on without the archive")
    left = [name for name in missing if not is_here(root / name)]
    calls = [partial(fetch_image, name, root, sources) for name in left]
    with progress_bar(total=len(calls), unit="image", disable=not calls) as bar:
        try:
            origins = run_all(calls, WORKERS, bar)
        except DownloadError as error:
            raise DownloadError(problems + error.problems) from None
    counts = Counter(
        {"there before": len(names) - len(missing), "archive": len(missing) - len(left)}
    )
    counts.update(origins)
    print(f"{len(names)} images: " + ", ".join(f"{n} {origin}" for origin, n in counts.items()))
    absent = [name for name, origin in zip(left, origins, strict=True) if origin == ABSENT]
    if absent:
        problems.append(
            f"{len(absent)} images are in none of the sources; put them below {root}, or correct "
            f"dataset.sources: {' '.join(absent)}"
        )
        raise DownloadError(problems)
    return [record for name in [ARCHIVE, *names] if (record := known_record(root / name))]


def fetch_archive(url, root, names):
    """Download the archive of images and unpack those of these names that it holds."""
    fetch_from_drive(url, root / ARCHIVE, **expected(KIND, url))
    extract(root / ARCHIVE, root, members=set(names).__contains__)


def fetch_image(name, root, sources):
    """Download one image; returns the repository that it came from, or ABSENT."""
    places = [(sources["repo"], sources["revision"]), (sources["backup"], "main")]
    for repo, revision in places:
        try:
            if repo:
                fetch_from_hub(repo, name, root, endpoint=sources["endpoint"], revision=revision)
                return repo
        except NotFoundError:
            continue
    return ABSENT
