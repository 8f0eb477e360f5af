"""A job's position in its sweep, and the remaining time, estimated from finished jobs."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from tpt.files import read_bytes


@dataclass(frozen=True)
class Sweep:
    """The sweep of a job."""

    folder: Path  # of the sweep; it contains the folders of the jobs, and its name is the group of its runs
    job: int  # number of this job, from 0
    jobs: int | None = None  # number of jobs; None if only the sweeper knows
    settings: tuple[str, ...] = ()  # the swept settings with this job's values, such as `method.steps=2`
    in_turn: bool = True  # whether jobs run one after another

    def seconds_left(self, of_this_job: float) -> float | None:
        """Seconds until the sweep ends, given the seconds that this job still needs; None if unknown.

        Each remaining job is estimated as the median of the finished ones: the first often fills the cache for all.
        """
        if self.jobs is None or not self.in_turn:
            return None
        to_come = max(self.jobs - self.job - 1, 0)
        if not to_come:
            return of_this_job
        done = [took for job in range(self.job) if (took := seconds_of(self.folder / str(job))) is not None]
        return of_this_job + to_come * statistics.median(done) if done else None


def seconds_of(folder: Path) -> float | None:
    """The seconds that a run took; None if it has no results.

    The results of a resumed run contain only the time of its last start, so the time of its records is a lower bound.
    """
    try:
        found = json.loads(read_bytes(folder / "results.json"))
        rates: list[tuple[float, float]] = [(d["images"], d["images_per_second"]) for d in found["datasets"].values()]
        return max(float(found["seconds"]), sum((images / rate for images, rate in rates if rate > 0), 0.0))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # missing so far, or written by another program
        return None
