"""mmlens: compare vision-language models, explain them, and test the explanations."""

__version__ = "0.1.0"
