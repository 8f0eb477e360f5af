"""Progress of training: epochs done, time left, current loss and accuracy."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from tpt.engine.callbacks.pace import time_text
from tpt.errors import NotNegative, checked

log = logging.getLogger(__name__)
SHOWN = {"train/loss": "loss {:.3g}", "train/accuracy": "acc {:.1f}", "val/accuracy": "val acc {:.1f}"}
NARROWEST = 10  # smallest width of the bar


class TrainingProgress(ProgressBar):
    """A progress bar on a terminal; otherwise log lines at intervals and for the last epoch.

    Args:
        log_every_s: seconds between log lines.
        clock: returns seconds.
    """

    @checked
    def __init__(self, log_every_s: NotNegative = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.log_every_s = log_every_s
        self.clock = clock
        self._shown = sys.stdout.isatty()
        self._bar: Tqdm | None = None
        self._began = 0.0  # start time of this session, and steps done before it
        self._before = 0
        self._tick = 0
        self._enabled = True

    def disable(self) -> None:
        """Hides bar and lines, in all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Shows them again."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the bar and the clock."""
        self._began, self._before, self._tick = self.clock(), trainer.global_step, self._ticks()
        if self._shown and self._enabled:
            steps = int(trainer.estimated_stepping_batches)
            form = "{percentage:3.0f}%|{bar}| {desc}{postfix}"
            self._bar = Tqdm(total=steps, initial=trainer.global_step, bar_format=form, file=sys.stdout, leave=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Updates the bar."""
        if self._bar is not None:
            self._draw(trainer, trainer.global_step, trainer.current_epoch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes a line if one is due."""
        done, now = trainer.current_epoch + 1, self._ticks()
        last = done == trainer.max_epochs
        if self._bar is not None:
            self._draw(trainer, trainer.global_step, done)
        elif self._enabled and (now > self._tick or last):
            self._tick = now
            log.info("%s", ", ".join([self._share(trainer, done), *self._parts(trainer)]))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Does nothing: the bar stays."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Ends the bar's line."""
        self.on_train_end(trainer, pl_module)

    def _ticks(self) -> int:
        return int(self.clock() // self.log_every_s) if self.log_every_s else 0

    def _share(self, trainer: Trainer, done: int) -> str:
        epochs = trainer.max_epochs or 1
        return f"epoch {done} of {epochs} ({100 * done // epochs} %)"

    def _parts(self, trainer: Trainer) -> list[str]:
        """Time left, loss and accuracy, as far as known."""
        here, total, parts = trainer.global_step - self._before, trainer.estimated_stepping_batches, []
        if here and total < float("inf"):
            seconds = (self.clock() - self._began) / here * (total - trainer.global_step)
            parts.append(f"{time_text(seconds)} left")
        metrics = trainer.callback_metrics
        return parts + [form.format(float(metrics[name])) for name, form in SHOWN.items() if name in metrics]

    def _draw(self, trainer: Trainer, step: int, done: int) -> None:
        """Updates the bar; text that does not fit next to it is dropped."""
        assert self._bar is not None
        front = f"epoch {min(done + 1, trainer.max_epochs or 1)} of {trainer.max_epochs}"
        parts = self._parts(trainer)
        room = shutil.get_terminal_size().columns - len(front) - len(" 100%||, ") - NARROWEST
        while parts and len(", ".join(parts)) > room:
            parts.pop()
        self._bar.set_description_str(front, refresh=False)
        self._bar.set_postfix_str(", ".join(parts), refresh=False)
        self._bar.update(step - self._bar.n)
