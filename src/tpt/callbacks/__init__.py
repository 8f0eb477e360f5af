"""What a run measures, keeps and shows."""

from tpt.callbacks.lifecycle import begin, close, describe, finish, launch
from tpt.callbacks.metrics import DatasetMetrics
from tpt.callbacks.processes import ProcessGuard
from tpt.callbacks.progress import EpisodeProgressBar
from tpt.callbacks.records import RecordWriter

__all__ = [
    "DatasetMetrics",
    "EpisodeProgressBar",
    "ProcessGuard",
    "RecordWriter",
    "begin",
    "close",
    "describe",
    "finish",
    "launch",
]
