"""Progress of a test run: images done of all datasets, rate, time left, accuracy before and after adaptation."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from tpt.engine.callbacks.pace import Pace, line, summary, title
from tpt.engine.printing import printable
from tpt.engine.tasks.outcome import Outcome
from tpt.errors import Natural, NotNegative, checked
from tpt.results.runs.sweep import Sweep

log = logging.getLogger(__name__)
NARROWEST = 10  # smallest width of a bar


class Progress(ProgressBar):
    """A bar on a terminal; otherwise log lines at intervals.

    Args:
        log_every_s: seconds between log lines.  A line is due when the clock passes a multiple of this interval, so
            that many short jobs together also keep to it; 0 writes a line at every opportunity.
        clock: returns seconds.
    """

    def __init__(self, log_every_s: float, clock: Callable[[], float]) -> None:
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

    def draw(self, done: int, front: str, counts: str, text: Callable[[int], str]) -> None:
        """Updates the bar, if any: how many are `done`, the text before it, and the text after it that fits.

        `counts` is the rest of the bar's format at its longest, and `text` gets the number of characters that are left.
        """
        if self._bar is not None:
            room = shutil.get_terminal_size().columns - len(front) - len(counts) - NARROWEST
            self._bar.set_description_str(front, refresh=False)
            self._bar.set_postfix_str(text(room), refresh=False)
            self._bar.update(done - self._bar.n)

    def _end(self, *_: Any, **__: Any) -> None:
        """Ends the bar's line, so that later messages appear below it; the bar stays."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    on_test_end = on_train_end = on_exception = _end


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

    def describe(self, manifest: Mapping[str, Any], sweep: Sweep | None) -> None:
        """Receives the sweep of this job, if any."""
        self.sweep = sweep

    def begin(self, records: pa.Table) -> None:
        """Receives the records of earlier sessions."""
        self._earlier = records

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
            counts = f": 100%|| {pace.total}/{pace.total} images"
            self.draw(pace.done, front, counts, lambda room: summary(pace, name, self.sweep, room))
