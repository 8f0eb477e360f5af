"""LightningModules: what a run does with batches."""

from tpt.tasks.adaptation import AdaptationTask, MethodMaker
from tpt.tasks.coop import CoCoOpTask, CoOpTask
from tpt.tasks.learned import checkpoints, save_learned
from tpt.tasks.outcome import Outcome
from tpt.tasks.start import cocoop_task, coop_task

__all__ = [
    "AdaptationTask",
    "CoCoOpTask",
    "CoOpTask",
    "MethodMaker",
    "Outcome",
    "checkpoints",
    "cocoop_task",
    "coop_task",
    "save_learned",
]
