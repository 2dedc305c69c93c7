"""What a model does inside: entropy and mass of its attention, decisions of its layers.

Diagnostics, not attributions: they rank no tokens and are not tested by perturbation.
"""
