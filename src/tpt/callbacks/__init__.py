"""What a run measures, keeps and shows."""

from tpt.callbacks.lifecycle import begin, close, describe, finish, launch
from tpt.callbacks.metrics import DatasetMetrics
from tpt.callbacks.processes import ProcessGuard
from tpt.callbacks.progress import EpisodeProgressBar
from tpt.callbacks.records import RecordWriter
from tpt.callbacks.training import TrainingProgress

__all__ = [
    "DatasetMetrics",
    "EpisodeProgressBar",
    "ProcessGuard",
    "RecordWriter",
    "TrainingProgress",
    "begin",
    "close",
    "describe",
    "finish",
    "launch",
]
