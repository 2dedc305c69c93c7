"""The order of a method backwards, which its own must beat."""

from . import METHODS, register_method
from .maps import Maps
from .relevance import relevance


@register_method(
    "reversed", class_specific=True, of_another=True, arguments={"method": {"type": "string"}}
)
def reversed_order(capture, method=relevance.name, arguments=None):
    """A method's maps with their signs turned: what it finds least relevant comes first.

    A perturbation test that tells the two apart sees more than which tokens are extreme. Where
    the method does not apply to a model, its reverse does not either.

    method : name of the registry
    arguments : {method: its keyword arguments} of the run

    Returns {modality: (B, N)}, with what the method says of its maps.
    """
    found = METHODS.get(method)(capture, **(arguments or {}).get(method, {}))
    own = found if isinstance(found, Maps) else Maps()
    return Maps({m: -values for m, values in found.items()}, own.flags, own.facts)
