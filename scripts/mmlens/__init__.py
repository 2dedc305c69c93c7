"""mmlens: compare vision-language models, explain them, and test the explanations."""

__version__ = "0.1.0"


def explain(model, image=None, text=None, method="relevance", **options):
    """What a model says of one image and text, and why: `cases.explain_case`, a `cases.Case`."""
    from .cases import explain_case  # torch is imported where it is used

    return explain_case(model, image, text, method, **options)
