"""Explanations: one capture per batch, then every method as a function of it."""

from ..registry import Registry

METHODS = Registry("method", __name__)
register_method = METHODS.register
