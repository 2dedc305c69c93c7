"""Download of COCO: the annotations, and the images that a run uses."""

from pathlib import Path

from ..table import DataError
from . import register_download
from .coco import annotation_names, choose_images, image_folder, read_annotations
from .versions import fetch_archive, fetch_images, read_versions

KIND = "coco"


@register_download("coco")
def fetch(settings):
    """Download what `coco.read` needs to settings["root"]; what is there is only checked.

    The two annotation files are taken from one archive; then the images of the seeded choice
    follow, many at a time.

    settings : as for `coco.read`, and sources: {annotations: address of the archive, images:
        address of the folder that holds the folders of images}

    Returns
    -------
    list of dict: path, url, size, sha256, etag, licence (of an image its own, where it is known)

    Raises
    ------
    DownloadError; DataError if the annotations cannot be read
    """
    root, sources, versions = Path(settings["root"]), settings["sources"], read_versions(KIND)
    archive = fetch_archive(KIND, sources["annotations"], root, annotation_names(settings).values())
    problems = []
    data = read_annotations(settings, problems)
    if problems:
        raise DataError("the annotations cannot be used", problems)
    images = list(choose_images(data, settings).values())
    names = [image["file_name"] for image in images]
    records = fetch_images(sources["images"], root, image_folder(settings), names)
    other = versions["images"]["licence"]
    return [{**archive, "licence": versions["annotations"]["licence"]}] + [
        {**record, "licence": data["licences"].get(image.get("license"), other)}
        for record, image in zip(records, images, strict=True)
    ]
