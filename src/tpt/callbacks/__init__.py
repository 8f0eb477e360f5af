"""What a run measures, keeps and shows."""

from tpt.callbacks.metrics import DatasetMetrics
from tpt.callbacks.progress import EpisodeProgressBar
from tpt.callbacks.records import RecordWriter

__all__ = ["DatasetMetrics", "EpisodeProgressBar", "RecordWriter"]
