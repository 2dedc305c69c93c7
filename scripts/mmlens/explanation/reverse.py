"""The order of a method backwards, which its own must beat."""

from . import METHODS, register_method
from .relevance import relevance


@register_method("reversed", class_specific=True)
def reversed_order(capture, method=relevance.name):
    """A method's maps with their signs turned: what it finds least relevant comes first.

    A perturbation test that tells the two apart sees more than which tokens are extreme. Where
    the method does not apply to a model, its reverse does not either.

    method : name of the registry
    Returns {modality: (B, N)}.
    """
    return {modality: -values for modality, values in METHODS.get(method)(capture).items()}
