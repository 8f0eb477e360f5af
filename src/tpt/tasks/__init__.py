"""LightningModules: what a run does with batches."""

from tpt.tasks.adaptation import AdaptationTask, Outcome

__all__ = ["AdaptationTask", "Outcome"]
