"""mmlens: compare vision-language models, explain them, and test the explanations.

`mmlens.explain(model, image=..., text=..., method=...)` explains one case: `cases.explain_case`.
"""

from importlib import import_module

__version__ = "0.1.0"


def __getattr__(name):
    # torch is imported where it is used; and a statement here would make all of `cases` part of
    # what every module imports that asks for the version, so that figures would retrain models.
    if name == "explain":
        return import_module(".cases", __name__).explain_case
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
