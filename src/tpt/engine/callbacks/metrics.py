"""Logs accuracy, calibration, entropy and selected views per dataset, before and after adaptation.

Accuracy is that of the records, as in reports, which are made without torch; torchmetrics counts it in training, where
there are no records.  Its calibration error is not used: it gives confidence 1 its own bin and closes bins below,
whereas Guo et al. close them above.  Nor is its confusion matrix: the one shown here compares predictions before and
after adaptation, and K x K numbers per dataset are too many for ImageNet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from lightning import Callback, LightningModule, Trainer

from tpt.engine.tasks.outcome import Outcome
from tpt.errors import Count, checked
from tpt.results.runs.sweep import Sweep
from tpt.results.tables.results import Measures, gain_values, numbers_of, table_of


class DatasetMetrics(Callback):
    """Logs the measures of each dataset's records to every logger as `test/<dataset>/<measure>`.

    The running values cover the images of this process and of earlier sessions of the run.  `close` logs the values of
    all records, and as `test/average/<measure>` their means over datasets, by which runs can be ranked
    (`test/shifted/<measure>` leaves out the dataset that prompts are learned on).

    Args:
        every_n_images: images between two logs of the running values.
    """

    @checked
    def __init__(self, every_n_images: Count = 50) -> None:
        self.every_n_images = every_n_images
        self._measures: defaultdict[str, Measures] = defaultdict(Measures)
        self._done = 0
        self._logged = 0

    def begin(self, trainer: Trainer, manifest: Mapping[str, Any], sweep: Sweep | None, records: pa.Table) -> None:
        """Receives the records of earlier sessions."""
        for name in pc.unique(records["dataset"]).to_pylist():
            self._measures[name].add(records.filter(pc.field("dataset") == name))
        self._done = self._logged = records.num_rows

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any, **__: Any) -> None:
        """Adds a batch."""
        outcome: Outcome = outputs
        measures = self._measures[outcome.dataset.name].add(table_of(outcome.rows))
        self._done += len(outcome.rows)
        if self._done - self._logged >= self.every_n_images:
            self._log(trainer, outcome.dataset.name, measures.values() | gain_values({"gain": measures.gain()}))

    def close(self, trainer: Trainer, found: dict[str, dict[str, Any]]) -> None:
        """Logs the final values, from the measures of all records by dataset, and their averages over datasets."""
        for name, values in numbers_of(found).items():
            self._log(trainer, name, values)

    def _log(self, trainer: Trainer, name: str, values: dict[str, float]) -> None:
        for logger in trainer.loggers:
            logger.log_metrics({f"test/{name}/{key}": value for key, value in values.items()}, step=self._done)
        self._logged = self._done
