"""Download of VQA v2: questions, annotations, and the images that a run uses."""

from pathlib import Path

from ..download import fetch_file
from ..table import DataError
from . import register_download
from .versions import expected, fetch_archive, fetch_images, read_versions
from .vqa import choose_questions, image_folder, official_names

KIND = "vqa"


@register_download("vqa")
def fetch(settings):
    """Download what `vqa.read` needs to settings["root"]; what is there is only checked.

    The two official archives, or the file in LXMERT's form; then the images of the seeded choice
    of questions follow, many at a time.

    settings : as for `vqa.read`, and sources: {questions, annotations, train_annotations:
        addresses of archives, lxmert: of a file, images: of the folder that holds the folders of
        images}

    Returns
    -------
    list of dict: path, url, size, sha256, etag, licence

    Raises
    ------
    DownloadError; DataError if the questions cannot be read
    """
    root, sources, versions = Path(settings["root"]), settings["sources"], read_versions(KIND)
    if settings.get("lxmert"):
        url = sources["lxmert"]
        records = {"lxmert": fetch_file(url, root / settings["lxmert"], **expected(KIND, url))}
    else:
        records = {
            key: fetch_archive(KIND, sources[key], root, [name])
            for key, name in official_names(settings).items()
        }
    if settings.get("train_annotations"):
        url, name = sources["train_annotations"], settings["train_annotations"]
        records["train_annotations"] = fetch_archive(KIND, url, root, [name])
    problems = []
    questions = choose_questions(settings, problems)
    if problems:
        raise DataError("the questions cannot be used", problems)
    names = dict.fromkeys(Path(question["image"]).name for question in questions.values())
    images = fetch_images(sources["images"], root, image_folder(settings), names)
    return [
        {**record, "licence": versions[key]["licence"]}
        for key, record in [*records.items(), *(("images", record) for record in images)]
    ]
