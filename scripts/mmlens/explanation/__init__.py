"""Explanations: one capture per batch, then every method as a function of it."""

from ..registry import Registry

METHODS = Registry("method", __name__)
register_method = METHODS.register


class NotApplicableError(ValueError):
    """A method, or an operator of the perturbation test, cannot apply to a model; says why.

    A method raises it in place of a map that would mean nothing: `explain` then leaves the method
    out for this model and reports the reason.
    """
