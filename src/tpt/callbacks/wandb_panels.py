"""Weights & Biases panels: the results table and which views were selected; the only place that imports wandb."""

from __future__ import annotations

from collections import Counter
from typing import Any

import wandb
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from tpt.callbacks.metrics import DatasetMetrics
from tpt.tasks.adaptation import Outcome

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
        if outcome.adaptation is not None:
            counts = self._selected.setdefault(outcome.dataset.name, Counter())
            counts.update(outcome.adaptation.selected.flatten().tolist())

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Closes the run: the next job of a sweep gets one of its own."""
        _finish(trainer, exit_code=0)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Closes the run as failed."""
        _finish(trainer, exit_code=1)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the panels."""
        metrics = next((c for c in trainer.callbacks if isinstance(c, DatasetMetrics)), None)  # type: ignore[attr-defined]
        for logger in trainer.loggers:
            if not isinstance(logger, WandbLogger):
                continue
            for name, counts in self._selected.items():
                views = range(max(counts) + 1)
                histogram = wandb.Histogram(np_histogram=([counts[v] for v in views], [*views, max(counts) + 1]))
                logger.experiment.log({f"test/{name}/selected_view_index": histogram})
            if metrics is not None:
                values = {name: {**metrics.summary[name], **metrics.values(name)} for name in self._selected}
                rows = [[name, *(v[column] for column in COLUMNS)] for name, v in values.items()]
                logger.experiment.log({"test/results": wandb.Table(columns=["dataset", *COLUMNS], data=rows)})


def _finish(trainer: Trainer, exit_code: int) -> None:
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish(exit_code=exit_code)
