"""Perturbation tests of explanations: remove tokens in the order of relevance, watch the output."""

from ..registry import Registry

OPERATORS = Registry("operator", __name__)
register_operator = OPERATORS.register
