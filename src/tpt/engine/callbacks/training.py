"""Progress of training: epochs done, time left, current loss and accuracy."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from lightning import LightningModule, Trainer

from tpt.engine.callbacks.pace import time_text
from tpt.engine.callbacks.progress import Progress
from tpt.errors import NotNegative, checked

log = logging.getLogger(__name__)
SHOWN = {"train/loss": "loss {:.3g}", "train/accuracy": "acc {:.1f}", "val/accuracy": "val acc {:.1f}"}


class TrainingProgress(Progress):
    """Progress in epochs, see `Progress`; the last one always has a log line."""

    @checked
    def __init__(self, log_every_s: NotNegative = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(log_every_s, clock)
        self._began = 0.0  # start time of this session, and steps done before it
        self._before = 0

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
            parts.append(f"{time_text(seconds)} left")
        metrics = trainer.callback_metrics
        return parts + [form.format(float(metrics[name])) for name, form in SHOWN.items() if name in metrics]

    def _draw(self, trainer: Trainer, done: int) -> None:
        def fitting(room: int) -> str:
            parts = self._parts(trainer)
            while parts and len(", ".join(parts)) > room:
                parts.pop()
            return ", ".join(parts)

        front = f"epoch {min(done + 1, trainer.max_epochs or 1)} of {trainer.max_epochs}"
        self.draw(trainer.global_step, front, " 100%||, ", fitting)
