"""Figures: each module takes tables and returns one matplotlib figure."""
