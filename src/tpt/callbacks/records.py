"""Writes one record per image while the run goes on."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from tpt.reports.records import write_shard
from tpt.tasks.adaptation import Outcome

log = logging.getLogger(__name__)


class RecordWriter(Callback):
    """Keeps records in `<folder>/<number>-<dataset>-<first image>.parquet`, each shard complete or absent.

    Args:
        folder: must not hold records of another run.
        shard_size: images a shard; what an abrupt end can lose.
    """

    def __init__(self, folder: str | Path, shard_size: int = 256) -> None:
        self.folder = Path(folder)
        self.shard_size = shard_size
        self._rows: list[dict[str, Any]] = []
        self._written = 0
        self._dataset_number = 0
        self._clock = 0.0

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses a folder in use, and starts the clock."""
        if self.folder.is_dir() and any(self.folder.glob("*.parquet")):
            raise ValueError(
                f"Expected no records in {self.folder}, found some of another run; choose another hydra.run.dir."
            )
        self._clock = time.perf_counter()

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Adds a batch; writes a shard when it is full or the dataset ends."""
        now = time.perf_counter()
        rows = _rows(outputs, (now - self._clock) / max(len(outputs.batch), 1))
        self._clock = now
        self._dataset_number = dataloader_idx
        self._rows += rows
        last = batch_idx + 1 == trainer.num_test_batches[dataloader_idx]
        if last or len(self._rows) >= self.shard_size:
            self.flush()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Keeps what was computed before an error or Ctrl-C."""
        try:
            self.flush()
        except OSError:
            log.exception("The last %d records could not be kept.", len(self._rows))

    def flush(self) -> None:
        """Writes the records at hand.

        Raises:
            OSError: they cannot be written, on a full disk, say; earlier shards stay whole.
        """
        if not self._rows:
            return
        first = self._rows[0]
        name = f"{self._dataset_number:02d}-{first['dataset']}-{first['index']:07d}.parquet"
        try:
            write_shard(self._rows, self.folder / name)
        except OSError as error:
            raise OSError(
                f"Could not write records to {self.folder} ({error.strerror or error}); the {self._written} records "
                "written before are whole, so make room and run again with another hydra.run.dir."
            ) from error
        self._written += len(self._rows)
        self._rows = []


def _rows(outcome: Outcome, seconds: float) -> list[dict[str, Any]]:
    out, batch = outcome.adaptation, outcome.batch
    if out is None:
        return []
    confidence, pred = outcome.probs.max(-1)
    confidence_before, pred_before = outcome.probs_zero_shot.max(-1)
    columns = {
        "index": batch.indices.tolist(),
        "path": batch.paths,
        "label": batch.labels.tolist(),
        "pred": pred.tolist(),
        "pred_zero_shot": pred_before.tolist(),
        "confidence": confidence.tolist(),
        "confidence_zero_shot": confidence_before.tolist(),
        "entropy": out.entropy.tolist(),
        "entropy_zero_shot": out.initial_entropy.tolist(),
        "selected": out.selected.tolist(),
    }
    fixed = {"dataset": outcome.dataset.name, "seconds": seconds}
    return [dict(zip(columns, values, strict=True)) | fixed for values in zip(*columns.values(), strict=True)]
