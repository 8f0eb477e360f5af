"""LightningModules that process a run's batches."""

from tpt.engine.tasks.adaptation import AdaptationTask
from tpt.engine.tasks.coop import CoCoOpTask, CoOpTask
from tpt.engine.tasks.coop_files import checkpoints, save_learned
from tpt.engine.tasks.coop_settings import cocoop_task, coop_task
from tpt.engine.tasks.method_maker import MethodMaker
from tpt.engine.tasks.outcome import Outcome

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
