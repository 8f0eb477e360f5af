"""The progress of a long run as text: images done, rate, time left, accuracy so far."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tpt.results.runs.sweep import Sweep

# Seconds over which the rate is measured; datasets differ in speed because of text encoders and caches.
WINDOW_S = 300.0
COLUMNS = ("dataset", "label", "pred", "pred_zero_shot", "problem")
HOUR, MINUTE = 3600, 60


@dataclass
class Tally:
    """Numbers of images of one dataset.

    In order: to test, tested in earlier sessions, tested by this process, answered, changed by adaptation, labelled,
    correct before adaptation, and correct after it.
    """

    total: int
    before: int = 0
    here: int = 0
    answered: int = 0
    changed: int = 0
    labelled: int = 0
    right_zero_shot: int = 0
    right: int = 0

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Counts the predictions in records."""
        for row in rows:
            if row["problem"] is None:
                self.answered += 1
                self.changed += row["pred"] != row["pred_zero_shot"]
                self.labelled += row["label"] is not None
                self.right_zero_shot += row["pred_zero_shot"] == row["label"]
                self.right += row["pred"] == row["label"]

    def done(self, processes: int) -> int:
        """Estimated images tested by all N processes, from this one's count: each takes every N-th batch."""
        return min(self.total, self.before + self.here * processes)


class Pace:
    """Counts images, and computes the rate and the time left.

    Args:
        totals: number of images by dataset, in order.
        processes: number of processes that share them.
        earlier: records of earlier sessions of the run.
        clock: returns seconds.
    """

    def __init__(
        self,
        totals: Mapping[str, int],
        processes: int = 1,
        earlier: pa.Table | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.processes = processes
        self.counts = {name: Tally(total) for name, total in totals.items()}
        self._clock = clock
        for row in [] if earlier is None else earlier.select(list(COLUMNS)).to_pylist():
            if (count := self.counts.get(row["dataset"])) is not None:
                count.before += 1
                count.add([row])
        self._marks: deque[tuple[float, int]] = deque([(clock(), self.done)])

    @property
    def total(self) -> int:
        """Number of images in all datasets."""
        return sum(count.total for count in self.counts.values())

    @property
    def done(self) -> int:
        """Number of images tested by all processes, including earlier sessions."""
        return sum(count.done(self.processes) for count in self.counts.values())

    def add(self, dataset: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Counts a batch tested by this process."""
        count = self.counts[dataset]
        count.here += len(rows)
        count.add(rows)
        self._marks.append((self._clock(), self.done))
        while len(self._marks) > 2 and self._marks[-1][0] - self._marks[1][0] >= WINDOW_S:
            self._marks.popleft()

    @property
    def rate(self) -> float | None:
        """Images per second of all processes, over the last minutes; None before the first batch."""
        (began, before), (now, done) = self._marks[0], self._marks[-1]
        return (done - before) / (now - began) if done > before and now > began else None

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds until all images are tested."""
        return None if self.rate is None else (self.total - self.done) / self.rate


def summary(pace: Pace, dataset: str, sweep: Sweep | None = None, room: float = math.inf) -> str:
    """Rate, time left and accuracy, or the share of changed predictions, for a bar that already shows the count.

    Parts that do not fit into `room` characters are left out; priority: time left, accuracy, rate, sweep.
    """
    count, parts = pace.counts[dataset], {}
    if pace.rate is not None and pace.seconds_left is not None:
        parts["rate"] = rate_text(pace.rate)
        parts["left"] = f"{time_text(pace.seconds_left)} left"
        left = None if sweep is None else sweep.seconds_left(pace.seconds_left)
        if left is not None:
            parts["sweep"] = f"about {time_text(left)} in the sweep"
    if count.labelled:
        before, after = (100 * right / count.labelled for right in (count.right_zero_shot, count.right))
        parts["answers"] = f"acc {before:.1f} -> {after:.1f}"
    elif count.answered:
        parts["answers"] = f"{100 * count.changed / count.answered:.1f} % changed"
    for least in ("sweep", "rate", "answers", "left"):
        if len(", ".join(parts.values())) + len(", ") > room:
            parts.pop(least, None)
    return ", ".join(parts.values())


def line(pace: Pace, dataset: str, sweep: Sweep | None = None) -> str:
    """The count and the summary, for a log file."""
    of_all = f" of all {pace.processes} processes" if pace.processes > 1 else ""
    share = f"{pace.done} of {pace.total} images{of_all} ({100 * pace.done // max(pace.total, 1)} %)"
    return ", ".join(part for part in (f"{title(dataset, sweep)}: {share}", summary(pace, dataset, sweep)) if part)


def title(dataset: str, sweep: Sweep | None = None) -> str:
    """The dataset and the sweep's job."""
    if sweep is None:
        return dataset
    return f"job {sweep.job + 1}" + (f" of {sweep.jobs}" if sweep.jobs is not None else "") + f", {dataset}"


def rate_text(rate: float) -> str:
    """Images per second, or seconds per image if slower than one per second."""
    return f"{rate:.3g} images/s" if rate >= 1 else f"{1 / rate:.3g} s per image"


def time_text(seconds: float) -> str:
    """A duration as 1:02:03 or 2:03."""
    whole = round(seconds)
    hours, minutes, rest = whole // HOUR, whole % HOUR // MINUTE, whole % MINUTE
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
