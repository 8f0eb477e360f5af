"""Logs accuracy, calibration, entropy and selected views per dataset, before and after adaptation.

The running accuracy is torchmetrics'. The rest comes from `tpt.results.tables.results`, which reads records
without torch, as reports do. torchmetrics' calibration error is not used: it gives confidence 1 its own bin and
closes bins below, whereas Guo et al. close them above. Nor is its confusion matrix used: the one shown here compares
predictions before and after adaptation, and K x K numbers per dataset are too many for ImageNet.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from lightning import Callback, LightningModule, Trainer
from torchmetrics.classification import MulticlassAccuracy

from tpt.engine.tasks.outcome import Outcome
from tpt.errors import Count, checked
from tpt.results.runs.records import ENDS
from tpt.results.tables.results import Measures, gain_values, numbers_of, table_of
from tpt.results.tables.statistics import PERCENT


class Running:
    """The measures of a dataset's records so far, in this process."""

    def __init__(self) -> None:
        self.measures = Measures()
        self._accuracy = {f"acc{end}": MulticlassAccuracy(average="micro") for end in ENDS}

    def add(self, records: pa.Table) -> None:
        """Adds records, with the columns of `tpt.results.runs.RECORD_SCHEMA`."""
        self.measures.add(records)
        rows = records.filter(pc.and_(pc.is_valid(records["rank"]), pc.is_null(records["problem"])))
        label = torch.tensor(rows["label"].to_numpy())
        for end in ENDS if len(rows) else ():
            self._accuracy[f"acc{end}"].update(torch.tensor(rows[f"pred{end}"].to_numpy()), label)

    def values(self) -> dict[str, float]:
        """All measures; the rate covers this process only."""
        found = self.measures.values()
        found |= {name: PERCENT * float(acc.compute()) for name, acc in self._accuracy.items() if name in found}
        return found | gain_values({"gain": self.measures.gain()})


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
        self._running: defaultdict[str, Running] = defaultdict(Running)
        self._done = 0
        self._logged = 0

    def begin(self, records: pa.Table) -> None:
        """Receives the records of earlier sessions."""
        for name in pc.unique(records["dataset"]).to_pylist() if len(records) else []:
            self._running[name].add(records.filter(pc.equal(records["dataset"], name)))
            self._done += self._running[name].measures.images
        self._logged = self._done

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any, **__: Any) -> None:
        """Adds a batch."""
        outcome: Outcome = outputs
        running = self._running[outcome.dataset.name]
        running.add(table_of(outcome.rows))
        self._done += len(outcome.rows)
        if self._done - self._logged >= self.every_n_images:
            self._log(trainer, outcome.dataset.name, running.values())

    def close(self, trainer: Trainer, found: dict[str, dict[str, Any]]) -> None:
        """Logs the final values, from the measures of all records by dataset, and their averages over datasets."""
        for name, values in numbers_of(found).items():
            self._log(trainer, name, values)

    def _log(self, trainer: Trainer, name: str, values: dict[str, float]) -> None:
        for logger in trainer.loggers:
            logger.log_metrics({f"test/{name}/{key}": value for key, value in values.items()}, step=self._done)
        self._logged = self._done
