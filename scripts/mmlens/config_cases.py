"""Section cases of the config: single decisions to explain."""

from .explanation import METHODS
from .models import MODELS
from .registry import unknown


def check_cases(config):
    """Problems with the cases of a config that its schema cannot see."""
    problems, names = [], [case["name"] for case in config["cases"]]
    for number, case in enumerate(config["cases"]):
        key = f"cases.{number}"
        if names.index(case["name"]) < number:
            problems.append(f"{key}.name: {case['name']!r} occurs more than once; rename it")
        if case["model"] not in config["models"]:
            expected = f"one of the run's models ({', '.join(config['models']) or 'none'})"
            problems.append(f"{key}.model: found {case['model']!r}, expected {expected}")
            continue
        for method in case.get("methods", []):
            if method not in METHODS.names():
                problem = unknown("method", method, METHODS.names())
                problems.append(f"{key}.methods: {problem}")
        problems += [f"{key}{problem}" for problem in input_problems(config, case)]
    return problems


def input_problems(config, case):
    """What is wrong with what a case gives its model."""
    name = config["variants"].get(case["model"], {"model": case["model"]})["model"]
    if name not in MODELS.names():
        return []  # which is reported elsewhere
    if not MODELS.attribute(name, "explained", True):
        return [f".model: {case['model']} is not explained; docs/models.md"]
    given = {"image", "text"} & case.keys()
    if "sample_id" in case:
        return [f".{key}: not used with sample_id; remove it" for key in sorted(given)]
    wanted = set(MODELS.attribute(name, "modalities"))
    return [
        f".{key}: missing, and {case['model']} reads it; add it, or the sample_id of a sample"
        for key in sorted(wanted - given)
    ]


def complete_cases(config):
    """The cases of a checked config, with the methods of the run where they name none."""
    return [{"methods": config["methods"], **case} for case in config["cases"]]
