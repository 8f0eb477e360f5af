"""Loggers: a guard around each, and what Weights & Biases shows."""
