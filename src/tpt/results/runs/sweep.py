"""A job's view of its sweep: its place, and the time left, estimated from the jobs that are done."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sweep:
    """The sweep that a job belongs to.

    Args:
        folder: of the sweep; each job's own is in it.
        job: number of this job, from 0.
        jobs: how many there are; None if only the sweeper knows.
        settings: the swept settings with this job's values, such as `method.steps=2`.
        in_turn: whether one job starts when another ends.
    """

    folder: Path
    job: int
    jobs: int | None = None
    settings: tuple[str, ...] = ()
    in_turn: bool = True

    @property
    def name(self) -> str:
        """Its directory's name, which its runs share."""
        return self.folder.name

    def seconds(self) -> list[float]:
        """How long each of the jobs before this one took, as far as they have results."""
        folders = (self.folder / str(job) for job in range(self.job))
        return [seconds for folder in folders if (seconds := seconds_of(folder)) is not None]

    def seconds_left(self, of_this_job: float) -> float | None:
        """Seconds until the sweep ends; None if that cannot be told.

        A job to come is taken to need the median of those done: the first one often fills the feature cache for all.

        Args:
            of_this_job: what this one still needs.
        """
        if self.jobs is None or not self.in_turn:
            return None
        to_come = max(self.jobs - self.job - 1, 0)
        if not to_come:
            return of_this_job
        done = self.seconds()
        return of_this_job + to_come * statistics.median(done) if done else None


def seconds_of(folder: Path) -> float | None:
    """How long a run took; None if it has no results.

    A run that was continued says how long its last start took, so what its records took is looked at as well.
    """
    try:
        found = json.loads((folder / "results.json").read_text("utf-8"))
        rates: list[tuple[float, float]] = [(d["images"], d["images_per_second"]) for d in found["datasets"].values()]
        return max(float(found["seconds"]), sum((images / rate for images, rate in rates if rate > 0), 0.0))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not there yet, or another's file
        return None
