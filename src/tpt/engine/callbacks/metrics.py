"""Logs accuracy, calibration, entropy and selected views of each dataset, before and after adaptation."""

from __future__ import annotations

import dataclasses
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from lightning import Callback, LightningModule, Trainer

from tpt.engine.tasks.outcome import Outcome
from tpt.results.tables.measures import MEASURES, Measures, measures_of
from tpt.results.tables.results import averages, gain_values

AVERAGE, SHIFTED = "average", "shifted"  # in place of a dataset's name


class DatasetMetrics(Callback):
    """Logs the measures of each dataset's records to every logger as `test/<dataset>/<measure>`.

    The running values are those of the images that this process has tested, and of those that earlier sessions of the
    run had; `close` logs the values of all records, and as `test/average/<measure>` their means over datasets, by which
    runs can be ranked (`test/shifted/<measure>` without the dataset that prompts are learned on).

    Args:
        every_n_images: how often the running values are logged.
    """

    def __init__(self, every_n_images: int = 50) -> None:
        self.every_n_images = every_n_images
        self._measures: dict[str, Measures] = {}
        self._done = 0
        self._logged = 0

    def begin(self, records: pa.Table) -> None:
        """Receives the records of earlier sessions."""
        for name in pc.unique(records["dataset"]).to_pylist() if len(records) else []:
            self._measures[name] = measures_of(records.filter(pc.equal(records["dataset"], name)))
            self._done += self._measures[name].images
        self._logged = self._done

    def running(self, dataset: str) -> Measures:
        """The measures of a dataset so far."""
        return self._measures.setdefault(dataset, Measures())

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Adds a batch."""
        outcome: Outcome = outputs
        name = outcome.dataset.name
        self.running(name).update(outcome.rows)
        self._done += len(outcome.rows)
        if self._done - self._logged >= self.every_n_images:
            running = self.running(name)
            gain = running.gain()
            gains = {} if gain is None else gain_values({"gain": dataclasses.asdict(gain)})
            self._log(trainer, name, running.values() | gains)

    def close(self, trainer: Trainer, found: dict[str, dict[str, Any]]) -> None:
        """Logs the final values, and their averages over datasets.

        Args:
            trainer: whose loggers take them.
            found: measures by dataset, of all records.
        """
        of_all = averages(found)
        shifted = of_all.get(SHIFTED)
        means = {AVERAGE: of_all} | ({SHIFTED: shifted} if shifted is not None else {})
        for name, values in (means | found).items():
            measures = {key: values[key] for key in MEASURES if key in values}
            self._log(trainer, name, measures | gain_values(values))

    def _log(self, trainer: Trainer, name: str, values: dict[str, float]) -> None:
        for logger in trainer.loggers:
            logger.log_metrics({f"test/{name}/{key}": value for key, value in values.items()}, step=self._done)
        self._logged = self._done
