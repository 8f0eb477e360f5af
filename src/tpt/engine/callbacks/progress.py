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
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from tpt.engine.callbacks.pace import Pace, fitting, line, title
from tpt.engine.printing import printable
from tpt.engine.tasks.outcome import Outcome
from tpt.errors import Natural, NotNegative, checked
from tpt.results.runs.sweep import Sweep

log = logging.getLogger(__name__)
NARROWEST = 10  # smallest width of the bar


class EpisodeProgressBar(TQDMProgressBar):
    """A progress bar on a terminal; otherwise a log line at intervals.

    Both count the images of all datasets and processes, including those of earlier sessions of the run.

    Args:
        refresh_rate: batches between updates of the bar.
        log_every_s: seconds between log lines.  A line is due when the clock passes a multiple of them, so that many
            short jobs together also write lines at this interval.
        clock: returns seconds.
    """

    BAR_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} images{postfix}"

    @checked
    def __init__(
        self, refresh_rate: Natural = 1, log_every_s: NotNegative = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(refresh_rate=refresh_rate)
        self.log_every_s = log_every_s
        self.clock = clock
        self.sweep: Sweep | None = None
        self._bar_shown = sys.stdout.isatty()  # stream that the bar is drawn on
        self._tick = 0
        self._earlier: pa.Table | None = None
        self._pace: Pace | None = None

    @property
    def is_disabled(self) -> bool:
        """Whether the bar is off."""
        return super().is_disabled or not self._bar_shown

    def describe(self, manifest: Mapping[str, Any], sweep: Sweep | None) -> None:
        """Receives the place of this job in its sweep."""
        self.sweep = sweep

    def begin(self, records: pa.Table) -> None:
        """Receives the records of earlier sessions."""
        self._earlier = records

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the bar and the clock."""
        super().on_test_start(trainer, pl_module)
        totals = {dataset.name: len(dataset) for dataset in pl_module.datasets}  # type: ignore[union-attr]
        pace = self._pace = Pace(totals, trainer.world_size, self._earlier, self.clock)
        self._tick = self._ticks()
        bar: Tqdm = self.test_progress_bar
        bar.total, bar.initial, bar.n = pace.total, pace.done, pace.done
        bar.refresh()

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Does nothing: the bar counts the images of all datasets, whereas Lightning's would restart for each."""

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Advances the bar or the log."""
        outcome: Outcome = outputs
        name, pace = outcome.dataset.name, self._pace
        if pace is None or not self.is_enabled:  # only the first process reports
            return
        pace.add(name, outcome.rows)
        if self.is_disabled:
            self._write(pace, name)
        elif (batch_idx + 1) % self.refresh_rate == 0 or pace.done == pace.total:
            self._draw(pace, name)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Ends the bar's line, so that what is reported next stays below it."""
        if self._pace is not None:
            self.test_progress_bar.close()

    def _write(self, pace: Pace, name: str) -> None:
        """Writes a line if one is due and there is no bar."""
        now = self._ticks()
        if not self._bar_shown and (now > self._tick or not self.log_every_s):
            self._tick = now
            log.info("%s", printable(line(pace, name, self.sweep)))

    def _ticks(self) -> int:
        """The number of intervals between lines that the clock has passed."""
        return int(self.clock() // self.log_every_s) if self.log_every_s else 0

    def _draw(self, pace: Pace, name: str) -> None:
        """Updates the bar, which keeps a minimum width; text that does not fit next to it is dropped."""
        bar: Tqdm = self.test_progress_bar
        front = printable(_of_all(pace, title(name, self.sweep)))
        columns = shutil.get_terminal_size().columns
        counts = len(f": 100%|| {pace.total}/{pace.total} images")
        room = columns - len(front) - counts - NARROWEST
        bar.set_description(front, refresh=False)
        bar.set_postfix_str(fitting(pace, name, self.sweep, room), refresh=False)
        bar.update(pace.done - bar.n)


def _of_all(pace: Pace, text: str) -> str:
    return text if pace.processes == 1 else f"{text} (all {pace.processes} processes)"
