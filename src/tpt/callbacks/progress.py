"""Progress of a test run: dataset, rate, time left, running accuracy before and after."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar

from tpt.tasks.outcome import Outcome

log = logging.getLogger(__name__)


class EpisodeProgressBar(TQDMProgressBar):
    """A bar on a terminal; a line now and then where the output is a file.

    Args:
        refresh_rate: batches between two updates of the bar.
        log_every_s: seconds between two lines of a log file.
    """

    def __init__(self, refresh_rate: int = 1, log_every_s: float = 60.0) -> None:
        super().__init__(refresh_rate=refresh_rate)
        self.log_every_s = log_every_s
        self._bar_shown = sys.stdout.isatty()  # where the bar is drawn
        self._counts = [0, 0, 0]  # images, right before, right after
        self._last_line = 0.0

    @property
    def is_disabled(self) -> bool:
        """Whether no bar is drawn."""
        return super().is_disabled or not self._bar_shown

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Starts a new bar for a new dataset."""
        super().on_test_batch_start(trainer, pl_module, batch, batch_idx, dataloader_idx)
        if batch_idx == 0:
            self._counts = [0, 0, 0]
            self._last_line = time.monotonic()
            name = pl_module.datasets[dataloader_idx].name  # type: ignore[index, union-attr]
            if self._bar_shown and self._test_progress_bar is not None:
                self.test_progress_bar.set_description(str(name))

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Moves on."""
        super().on_test_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
        outcome: Outcome = outputs
        good = [row for row in outcome.rows if row["problem"] is None]
        self._counts[0] += len(good)
        self._counts[1] += sum(row["pred_zero_shot"] == row["label"] for row in good)
        self._counts[2] += sum(row["pred"] == row["label"] for row in good)
        images, before, after = self._counts
        text = f"acc {100 * before / max(images, 1):.1f} -> {100 * after / max(images, 1):.1f}"
        if self._bar_shown and self._test_progress_bar is not None:
            self.test_progress_bar.set_postfix_str(text)
        elif not self._bar_shown and time.monotonic() - self._last_line > self.log_every_s:
            self._last_line = time.monotonic()
            total = len(outcome.dataset)
            log.info("%s: %d of %d images, %s", outcome.dataset.name, images, total, text)
