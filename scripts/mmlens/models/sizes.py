"""Checking of the sizes of a network that a config gives."""

from dataclasses import fields, replace

from ..registry import unknown


def is_like(value, default):
    """Whether a value of a config file is of the kind of its default."""
    if isinstance(default, tuple):
        return isinstance(value, tuple) and all(is_like(v, 0) for v in value)
    if isinstance(default, float) and not isinstance(value, bool):
        return isinstance(value, int | float)
    return type(value) is type(default)


def with_sizes(config, values):
    """A dataclass of sizes with some of its values replaced.

    Raises
    ------
    ValueError naming every key that is unknown or of another kind than its default.
    """
    defaults = {field.name: field.default for field in fields(config)}
    problems = [unknown("key", key, list(defaults)) for key in values if key not in defaults]
    problems += [
        f"{key}: found {value!r}, expected a value such as {defaults[key]!r}"
        for key, value in values.items()
        if key in defaults and not is_like(value, defaults[key])
    ]
    if problems:
        raise ValueError("; ".join(problems))
    return replace(config, **values)
