"""Records of JSON files, checked key by key: every one that is wrong is a problem of its own."""

import json
import math
from pathlib import Path

from ..files import seed_from

NUMBER = (int, float)
EXPECTED = {
    int: "a whole number",
    NUMBER: "a number",
    str: "a text in Unicode",
    list: "a list",
    dict: "an object",
    (list, dict): "a list or an object",
}


def read_json(path, setting, problems):
    """Content of a JSON file; None, with a problem that names the setting, if it has none."""
    if not Path(path).is_file():
        problems.append(f"{path}: no such file; download it or correct {setting}")
        return None
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        problems.append(f"{path}: not JSON ({error}); see {setting}")
        return None


def records_of(content, key, fields, path, problems):
    """The valid records of one list of a file, with a problem for every other one.

    Parameters
    ----------
    content : what the file holds, an object that has the list as `key`; or the list itself, then
        key is ""
    fields : {key of a record: type, one of EXPECTED}
    """
    records = content.get(key) if key and isinstance(content, dict) else content
    if not isinstance(records, list) or (key and not isinstance(content, dict)):
        problems.append(f"{path}: no list {key}".rstrip() + f" of objects with {', '.join(fields)}")
        return []
    valid = []
    for number, record in enumerate(records):
        wrong = wrong_fields(record, fields)
        if wrong:
            problems.append(f"{path} {key}[{number}]: {wrong}")
        else:
            valid.append(record)
    return valid


def wrong_fields(record, fields):
    """What is wrong with one record, "" if nothing is."""
    if not isinstance(record, dict):
        return f"found {json.dumps(record)[:60]}; expected an object with {', '.join(fields)}"
    missing = [name for name in fields if name not in record]
    if missing:
        return f"no key {', '.join(missing)}; expected {', '.join(fields)}"
    found = [
        f"{name} is {json.dumps(record[name])[:60]}, expected {EXPECTED[kind]}"
        for name, kind in fields.items()
        if not isinstance(record[name], kind)
        or isinstance(record[name], bool)
        or (kind is str and not is_encodable(record[name]))
        or (kind is NUMBER and not is_number(record[name]))
    ]
    return "; ".join(found)


def is_number(value):
    """Whether a value is a finite number; Python's JSON also knows NaN and Infinity."""
    return isinstance(value, NUMBER) and not isinstance(value, bool) and math.isfinite(value)


def is_file_name(text):
    """Whether a text names a file, and no folder: what a file says must not lead out of its own."""
    return text not in ("", ".", "..") and Path(text).name == text


def is_encodable(text):
    """Whether a text can be written; JSON can hold half of a character pair, which no file can."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def split_of(setting, image_id):
    """The split of an image: `setting` itself, or, where that is by_image, drawn per image.

    Of ten images about six are for training, two for validation and two for testing. An image has
    one split whatever data set and samples show it, so that no image is in two.
    """
    if setting != "by_image":
        return setting
    drawn = seed_from("split", image_id) % 10
    return "train" if drawn < 6 else "val" if drawn < 8 else "test"


def by_id(records, key, path, problems):
    """{value of `key`: record}, with a problem for every value that occurs again."""
    found = {}
    for record in records:
        if record[key] in found:
            problems.append(f"{path}: {key} {record[key]} occurs more than once; keep one record")
        found.setdefault(record[key], record)
    return found
