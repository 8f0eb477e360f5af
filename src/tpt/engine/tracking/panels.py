"""Weights & Biases panels at the end of a run; docs/wandb.md lists every key."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from lightning import Callback, Trainer

from tpt.engine.tracking import media
from tpt.engine.tracking.guard import Guard
from tpt.engine.tracking.logger import STEP, WandbLogger
from tpt.errors import Natural, checked
from tpt.results.tables.classes import Record
from tpt.results.tables.results import numbers_of
from tpt.results.tables.runs import Run, load_run

log = logging.getLogger(__name__)
Panels = dict[str, Any]
# Measures in the summary: of the averages, and of each dataset.
RANKED_MEANS = ("acc", "acc_zero_shot", "gain", "gain_low", "gain_high", "ece", "ece_zero_shot")
RANKED = ("acc", "gain")


class WandbPanels(Callback):
    """At the end of a run, logs tables, histograms and images of the records of all processes and sessions.

    The series themselves come from `DatasetMetrics`, through Lightning's logger.

    Args:
        folder: the run's directory.
        flips: maximum number of images per dataset in the table of changed predictions.
        sheets: contact sheets per dataset, each of which encodes an image's views again; 0 draws none.
    """

    @checked
    def __init__(self, folder: str | Path, flips: Natural = 50, sheets: Natural = 4) -> None:
        self.folder = Path(folder)
        self.flips = flips
        self.sheets = sheets

    def close(self, trainer: Trainer, found: dict[str, dict[str, Any]]) -> None:
        """Logs the panels to the trainer's W&B loggers, and the run's measures by dataset."""
        loggers = [g for g in trainer.loggers if isinstance(g, Guard) and isinstance(g.logger, WandbLogger)]
        if not loggers:
            return
        panels: Panels = {STEP: sum(len(d["unanswered"]) + d["images"] for d in found.values())}
        try:
            run = load_run(self.folder)
        except ValueError as error:  # the records have been damaged
            log.warning("Cannot log panels to W&B (%s).", error)
            return
        for what, make in self._parts(trainer, run, found).items():
            try:
                panels |= make()
            except Exception as error:  # the run is done and its files are written, so a failed panel must not end it
                log.warning("Cannot log the %s to W&B (%s).", what, error)
        for logger in loggers:
            logger.safely(lambda wandb_logger: wandb_logger.log_panels(panels, summary_of(found)))

    def _parts(self, trainer: Trainer, run: Run, found: dict[str, dict[str, Any]]) -> dict[str, Callable[[], Panels]]:
        """The panels; each is drawn separately, so that one may fail."""
        task: Any = trainer.lightning_module
        records: dict[str, list[Record]] = {
            name: run.records.filter(pc.equal(run.records["dataset"], name)).to_pylist()
            for name in run.results["datasets"]
        }
        device, data = trainer.strategy.root_device, trainer.datamodule  # type: ignore[attr-defined]
        return {
            "results table": lambda: {"test/results": media.results_panel(found)},
            "histograms of selected views": lambda: {
                f"test/{name}/selected_view_index": media.selected_views(rows) for name, rows in records.items()
            },
            "report": lambda: media.report_tables(run),
            "scores of trust": lambda: media.trust_panels(run),
            "table of flips": lambda: (
                {"test/flips": media.flips_table(records, task.datasets, self.flips)} if self.flips else {}
            ),
            "contact sheets": lambda: {
                f"test/{name}/contact_sheets": pictures
                for name, pictures in media.contact_sheets(task, data, device, records, self.sheets)
            },
        }


def summary_of(found: dict[str, dict[str, Any]]) -> dict[str, float]:
    """The values to rank runs by: averages, and each dataset's accuracy and gain; the rest is in series and tables."""
    return {
        f"test/{name}/{key}": value
        for name, values in numbers_of(found).items()
        for key, value in values.items()
        if key in (RANKED if name in found else RANKED_MEANS)
    }
