"""Callbacks: metrics, records, progress and processes of a run."""

from tpt.engine.callbacks.lifecycle import begin, close, describe, finish, launch
from tpt.engine.callbacks.metrics import DatasetMetrics
from tpt.engine.callbacks.processes import ProcessGuard, refuse_copies
from tpt.engine.callbacks.progress import EpisodeProgressBar
from tpt.engine.callbacks.records import RecordWriter
from tpt.engine.callbacks.training import TrainingProgress

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
    "refuse_copies",
]
