"""Weights & Biases: its logger and what it is shown."""
