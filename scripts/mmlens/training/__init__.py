"""Training of models and of the shared stem; prediction."""
