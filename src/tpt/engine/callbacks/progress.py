"""Progress of tests, in images, and of training, in epochs: a bar on a terminal, and otherwise lines in the log."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from tpt.engine.printing import printable
from tpt.engine.tasks.outcome import Outcome
from tpt.errors import Natural, NotNegative, checked
from tpt.results.runs.sweep import Sweep

log = logging.getLogger(__name__)
# Seconds over which the rate is measured; datasets differ in speed because of text encoders and caches.
WINDOW_S = 300.0
COLUMNS = ("dataset", "label", "pred", "pred_zero_shot", "problem")
SHOWN = {"train/loss": "loss {:.3g}", "train/accuracy": "acc {:.1f}", "val/accuracy": "val acc {:.1f}"}


class Progress(ProgressBar):
    """A bar on a terminal; otherwise log lines at intervals.

    Args:
        log_every_s: seconds between log lines.  A line is due when the clock passes a multiple of this interval, so
            that many short jobs together also keep to it; 0 writes a line at every opportunity.
        clock: returns seconds.
    """

    @checked
    def __init__(self, log_every_s: NotNegative = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.log_every_s = log_every_s
        self.clock = clock
        self.enabled = True
        self._on_terminal = sys.stdout.isatty()
        self._bar: Tqdm | None = None
        self._tick = 0

    def disable(self) -> None:
        """Hides bar and lines, in all processes but the first."""
        self.enabled = False

    def start(self, total: float, done: int, form: str) -> None:
        """Starts the clock, and on a terminal the bar, in one of tqdm's formats."""
        self._tick = self._ticks()
        if self._on_terminal and self.enabled:
            self._bar = Tqdm(total=total, initial=done, bar_format=form, file=sys.stdout, dynamic_ncols=True)

    def line_is_due(self) -> bool:
        """Whether it is time for a log line, and there is no bar."""
        before, self._tick = self._tick, self._ticks()
        return self.enabled and self._bar is None and (self._tick > before or not self.log_every_s)

    def _ticks(self) -> int:
        """The number of intervals between lines that the clock has passed."""
        return int(self.clock() // self.log_every_s) if self.log_every_s else 0

    def draw(self, done: int, front: str, text: Callable[[], str]) -> None:
        """Updates the bar, if any: how many are `done`, the text before it, and after it; what does not fit is cut."""
        if self._bar is not None:
            self._bar.set_description_str(front, refresh=False)
            self._bar.set_postfix_str(text(), refresh=False)
            self._bar.update(done - self._bar.n)

    def _end(self, *_: Any, **__: Any) -> None:
        """Ends the bar's line, so that later messages appear below it; the bar stays."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    on_test_end = on_train_end = on_exception = _end


class Pace:
    """Counts the images of a run's datasets, which several processes may share; `earlier` has earlier records."""

    def __init__(
        self,
        totals: Mapping[str, int],
        processes: int = 1,
        earlier: pa.Table | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.totals, self.processes, self._clock = totals, processes, clock
        self._before: Counter[str] = Counter()  # images of earlier sessions, by dataset
        self._here: Counter[str] = Counter()  # images of this process
        self.answers: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for row in [] if earlier is None else earlier.select(list(COLUMNS)).to_pylist():
            self._before[row["dataset"]] += 1
            self._count(row["dataset"], row)
        self.total = sum(totals.values())
        self._marks: deque[tuple[float, int]] = deque([(clock(), self.done)])

    @property
    def done(self) -> int:
        """Estimated images tested so far, from this process's count: each of N processes takes every N-th batch."""
        done = ((all_, self._before[name] + self._here[name] * self.processes) for name, all_ in self.totals.items())
        return sum(map(min, done))

    def add(self, dataset: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Counts a batch tested by this process."""
        self._here[dataset] += len(rows)
        for row in rows:
            self._count(dataset, row)
        self._marks.append((self._clock(), self.done))
        while len(self._marks) > 2 and self._marks[-1][0] - self._marks[1][0] >= WINDOW_S:
            self._marks.popleft()

    def _count(self, dataset: str, row: Mapping[str, Any]) -> None:
        if row["problem"] is None:
            label, before, after = row["label"], row["pred_zero_shot"], row["pred"]
            self.answers[dataset].update(
                images=1,
                changed=before != after,
                labelled=label is not None,
                before=before == label,
                after=after == label,
            )

    @property
    def rate(self) -> float | None:
        """Images per second of all processes, over the last minutes; None before the first batch."""
        (began, before), (now, done) = self._marks[0], self._marks[-1]
        return (done - before) / (now - began) if done > before and now > began else None


def summary(pace: Pace, dataset: str, sweep: Sweep | None = None) -> str:
    """Rate, time left and accuracy, or the share of changed predictions; each if known."""
    parts, of_sweep, count = [], None, pace.answers[dataset]
    if (rate := pace.rate) is not None:
        left = (pace.total - pace.done) / rate
        of_sweep = None if sweep is None else sweep.seconds_left(left)
        parts += [rate_text(rate), f"{_time(left)} left"]
    if count["labelled"]:
        before, after = (100 * count[right] / count["labelled"] for right in ("before", "after"))
        parts.append(f"acc {before:.1f} -> {after:.1f}")
    elif count["images"]:
        parts.append(f"{100 * count['changed'] / count['images']:.1f} % changed")
    if of_sweep is not None:
        parts.append(f"about {_time(of_sweep)} in the sweep")
    return ", ".join(parts)


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


class EpisodeProgressBar(Progress):
    """Progress in images of all datasets and processes, including those of earlier sessions of the run.

    Args:
        refresh_rate: batches between updates of the bar; 0 shows neither bar nor lines.
        log_every_s, clock: as for `Progress`.
    """

    @checked
    def __init__(
        self, refresh_rate: Natural = 1, log_every_s: NotNegative = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(log_every_s, clock)
        self.refresh_rate = refresh_rate
        self.enabled = refresh_rate > 0
        self.sweep: Sweep | None = None
        self._earlier: pa.Table | None = None
        self._pace: Pace | None = None

    def begin(self, trainer: Trainer, manifest: Mapping[str, Any], sweep: Sweep | None, records: pa.Table) -> None:
        """Receives the sweep of this job, if any, and the records of earlier sessions."""
        self.sweep, self._earlier = sweep, records

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the bar and the clock."""
        totals = {dataset.name: len(dataset) for dataset in pl_module.datasets}  # type: ignore[union-attr]
        pace = self._pace = Pace(totals, trainer.world_size, self._earlier, self.clock)
        self.start(pace.total, pace.done, "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} images{postfix}")

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any, **__: Any
    ) -> None:
        """Updates the bar or the log."""
        outcome: Outcome = outputs
        name, pace = outcome.dataset.name, self._pace
        if pace is None or not self.enabled:  # only the first process reports
            return
        pace.add(name, outcome.rows)
        if self.line_is_due():
            log.info("%s", printable(line(pace, name, self.sweep)))
        if (batch_idx + 1) % self.refresh_rate == 0 or pace.done == pace.total:
            of_all = "" if pace.processes == 1 else f" (all {pace.processes} processes)"
            front = printable(title(name, self.sweep) + of_all)
            self.draw(pace.done, front, lambda: summary(pace, name, self.sweep))


class TrainingProgress(Progress):
    """Progress in epochs, see `Progress`; the last one always has a log line."""

    _began, _before = 0.0, 0  # start time of this session, and steps done before it

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the bar and the clock."""
        self._began, self._before = self.clock(), trainer.global_step
        self.start(trainer.estimated_stepping_batches, trainer.global_step, "{percentage:3.0f}%|{bar}| {desc}{postfix}")

    def on_train_batch_end(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        """Updates the bar."""
        self._draw(trainer, trainer.current_epoch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes a line if one is due."""
        done, epochs = trainer.current_epoch + 1, trainer.max_epochs or 1
        self._draw(trainer, done)
        last = done == trainer.max_epochs and self.enabled and self._bar is None
        if self.line_is_due() or last:
            log.info("%s", ", ".join([f"epoch {done} of {epochs} ({100 * done // epochs} %)", *self._parts(trainer)]))

    def _parts(self, trainer: Trainer) -> list[str]:
        """Time left, loss and accuracy, each if known."""
        here, total, parts = trainer.global_step - self._before, trainer.estimated_stepping_batches, []
        if here and total < float("inf"):
            seconds = (self.clock() - self._began) / here * (total - trainer.global_step)
            parts.append(f"{_time(seconds)} left")
        metrics = trainer.callback_metrics
        return parts + [form.format(float(metrics[name])) for name, form in SHOWN.items() if name in metrics]

    def _draw(self, trainer: Trainer, done: int) -> None:
        front = f"epoch {min(done + 1, trainer.max_epochs or 1)} of {trainer.max_epochs}"
        self.draw(trainer.global_step, front, lambda: ", ".join(self._parts(trainer)))


def _time(seconds: float) -> str:
    """A duration as 1:02:03 or 02:03."""
    return str(Tqdm.format_interval(round(seconds)))
