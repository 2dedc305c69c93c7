"""Evaluation of predictions, and the statistics behind every interval."""
