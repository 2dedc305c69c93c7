"""What a JSON Schema says of a configuration: defaults, problems in words, its table of keys."""

import copy
import json
import math
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator, validators

from .registry import unknown


def is_number(_checker, value):
    """Whether a value is a finite number; YAML also knows .nan and .inf."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_integer(_checker, value):
    """Whether a value is an int; JSON Schema would also take 5.0, which Python does not."""
    return isinstance(value, int) and not isinstance(value, bool)


Validator = validators.extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many(
        {"number": is_number, "integer": is_integer}
    ),
)


# What the patterns of the schema ask for, in words.
PATTERNS = {
    "^[A-Za-z0-9][A-Za-z0-9_-]*$": "letters, digits, _ and -, starting with a letter or digit",
    "^[0-9a-f]{64}$": "64 digits of a SHA-256",
    r"\{name\}": "{name} in it, which becomes the name of a class",
}


def read_schema(path):
    return yaml.safe_load(Path(path).read_text(encoding="utf-8"))


def fill_defaults(value, schema):
    """Set missing keys of nested objects to the defaults of their schema."""
    if not isinstance(value, dict):
        return value
    for key, part in schema.get("properties", {}).items():
        if key not in value and "default" in part:
            value[key] = copy.deepcopy(part["default"])
        if key in value:
            fill_defaults(value[key], part)
    for branch in schema.get("allOf", []):
        if Validator(branch["if"]).is_valid(value):
            fill_defaults(value, branch["then"])
    return value


def errors_of(config, schema):
    errors = Validator(schema).iter_errors(config)
    return sorted(errors, key=lambda error: [str(part) for part in error.absolute_path])


def describe(error, prefix=""):
    """Lines for one schema error: key, found, expected, what the key is for."""
    key = ".".join([*prefix.split("."), *map(str, error.absolute_path)]).strip(".")
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        extra = [name for name in error.instance if name not in known]
        return [unknown("key", name, known, within=f"{key}." if key else "") for name in extra]
    if error.validator == "required":
        missing = [name for name in error.validator_value if name not in error.instance]
        return [f"{f'{key}.{name}'.strip('.')}: missing; add it to the config" for name in missing]
    expected = {
        "type": lambda v: f"a value of type {v if isinstance(v, str) else ' or '.join(v)}",
        "enum": lambda v: "one of " + ", ".join(map(json.dumps, v)),
        "minimum": lambda v: f"at least {v}",
        "exclusiveMinimum": lambda v: f"more than {v}",
        "maximum": lambda v: f"at most {v}",
        "exclusiveMaximum": lambda v: f"less than {v}",
        "multipleOf": lambda v: f"a multiple of {v}",
        "pattern": lambda v: PATTERNS.get(v, f"text that matches {v}"),
        "minItems": lambda v: f"at least {v} entries",
        "maxItems": lambda v: f"at most {v} entries",
        "uniqueItems": lambda v: "no entry twice",
    }[error.validator](error.validator_value)
    purpose = error.schema.get("description", "")
    found = f"{json.dumps(error.instance, default=str)} ({type(error.instance).__name__})"
    return [f"{key}: found {found}, expected {expected}. {purpose}".strip()]


def document(schema, prefix=""):
    """Rows of a Markdown table of all keys: key, default, meaning (config/README.md)."""
    branches = [(schema, "")]
    for part in schema.get("allOf", []):
        kind = part["if"]["properties"]["kind"]["const"]
        branches.append((part["then"], f" ({kind})"))
    rows = []
    for branch, suffix in branches:
        for key, part in branch.get("properties", {}).items():
            if not part:  # only repeats a key that stands above
                continue
            nested = document(part, f"{prefix}{key}.")
            entries = part.get("additionalProperties")
            if isinstance(entries, dict) and entries.get("properties"):
                nested = document(entries, f"{prefix}{key}.<name>.")
            own = "default" in part and not (nested and part["default"] == {})
            default = json.dumps(part["default"]) if own else ""
            choices = ", ".join(json.dumps(value) for value in part.get("enum", []))
            meaning = part.get("description", "") + (f" One of {choices}." if choices else "")
            rows += [f"| `{prefix}{key}`{suffix} | {default} | {meaning} |", *nested]
    return rows
