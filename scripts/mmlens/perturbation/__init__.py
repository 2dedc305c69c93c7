"""Perturbation tests of explanations: remove tokens in the order of relevance, watch the output."""
