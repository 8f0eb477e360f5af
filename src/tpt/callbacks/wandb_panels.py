"""Weights & Biases panels: the results table and which views were selected; the only place that imports wandb."""

from __future__ import annotations

from collections import Counter
from typing import Any

import wandb
from lightning import Callback, LightningModule, Trainer

from tpt.callbacks.wandb_logger import SafeWandbLogger
from tpt.tasks.outcome import Outcome

COLUMNS = (
    "images",
    "acc_zero_shot",
    "acc",
    "entropy_zero_shot",
    "entropy",
    "selected_views",
    "ece",
    "images_per_second",
)


class WandbPanels(Callback):
    """At the end of a run, adds `test/results` (a table) and per dataset `selected_view_index` (a histogram).

    The series themselves come from `DatasetMetrics`, through Lightning's logger.
    """

    def __init__(self) -> None:
        self._selected: dict[str, Counter[int]] = {}

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Counts selected views."""
        outcome: Outcome = outputs
        counts = self._selected.setdefault(outcome.dataset.name, Counter())
        counts.update(view for row in outcome.rows for view in row["selected"] or ())

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Closes the run as failed."""
        _finish(trainer, exit_code=1)

    def close(self, trainer: Trainer, found: dict[str, dict[str, Any]]) -> None:
        """Draws the panels.

        Args:
            trainer: whose W&B loggers are meant.
            found: measures by dataset.
        """
        rows = [[name, *(values[column] for column in COLUMNS)] for name, values in found.items()]
        panels: dict[str, Any] = {"test/results": wandb.Table(columns=["dataset", *COLUMNS], data=rows)}
        for name, counts in self._selected.items():
            views = range(max(counts, default=0) + 1)
            histogram = wandb.Histogram(np_histogram=([counts[v] for v in views], [*views, len(views)]))
            panels[f"test/{name}/selected_view_index"] = histogram
        for logger in _wandb_loggers(trainer):
            logger.safely(lambda run: run.log(panels))

    def finish(self, trainer: Trainer) -> None:
        """Closes the run: the next job of a sweep gets one of its own."""
        _finish(trainer, exit_code=0)


def _finish(trainer: Trainer, exit_code: int) -> None:
    for logger in _wandb_loggers(trainer):
        logger.safely(lambda run: run.finish(exit_code=exit_code))


def _wandb_loggers(trainer: Trainer) -> list[SafeWandbLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, SafeWandbLogger)]
