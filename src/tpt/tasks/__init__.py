"""LightningModules: what a run does with batches."""

from tpt.tasks.adaptation import AdaptationTask
from tpt.tasks.coop import CoCoOpTask, CoOpTask
from tpt.tasks.coop_files import checkpoints, save_learned
from tpt.tasks.coop_settings import cocoop_task, coop_task
from tpt.tasks.method_maker import MethodMaker
from tpt.tasks.outcome import Outcome

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
