"""The subsets that tables report: all samples, strata, other groups, predicted classes."""

from ..table import group_columns, task_of


def group_subsets(samples):
    """(name, bool mask) of all samples and of every value of every group_* column.

    A value of group_stratum is its own name ("swap"); other groups are named column=value
    ("colour=red"), without the prefix group_.
    """
    yield "all", samples["label"].notna()
    yield from strata(samples)
    for column in group_columns(samples):
        if column != "group_stratum":
            for value in sorted(samples[column].unique()):
                name = column.removeprefix("group_")
                yield f"{name}={value}", samples[column] == value


def strata(samples):
    """(name, bool mask) of every value of group_stratum, where there is that column."""
    if "group_stratum" in samples:
        for value in sorted(samples["group_stratum"].unique()):
            yield value, samples["group_stratum"] == value


def prediction_subsets(samples, prediction):
    """(name, bool mask) of all samples, of each of two predicted labels and of each stratum."""
    yield "all", samples["label"].notna()
    if task_of(samples) == "binary":
        yield "pred_0", prediction == 0
        yield "pred_1", prediction == 1
    yield from strata(samples)
