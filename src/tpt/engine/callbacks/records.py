"""Writes one record per image while the run goes on."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from tpt.engine.tasks.outcome import Outcome, cut
from tpt.errors import RunError, UserError
from tpt.files import file_name
from tpt.results.runs.records import LOGITS, write_shard

log = logging.getLogger(__name__)


class RecordWriter(Callback):
    """Keeps records in shards, each complete or absent, of whole batches; every process writes its own.

    Args:
        folder: of the run's records.
        shard_size: images a shard.
        flush_every_s: seconds after which what is at hand is written as a shard: what an abrupt end can lose.
        top: how many of the likeliest classes a record names, with their probabilities.
        logits: whether to keep the logits of all classes as well, before and after, in half precision; two bytes each.
    """

    def __init__(
        self,
        folder: str | Path,
        shard_size: int = 256,
        flush_every_s: float = 60.0,
        top: int = 5,
        logits: bool = False,
    ) -> None:
        if top < 1:
            raise UserError(f"Expected `callbacks.records.top` of at least 1, got {top}; the first is the answer.")
        self.folder = Path(folder)
        self.shard_size = shard_size
        self.flush_every_s = flush_every_s
        self.top = top
        self.logits = logits
        self._rows: list[dict[str, Any]] = []
        self._notes: dict[str, None] = {}
        self._written = 0
        self._dataset_number = 0
        self._last_flush = 0.0

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._last_flush = time.monotonic()

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Adds a batch; writes a shard when it is full, when it is time, or when the dataset ends."""
        outcome: Outcome = outputs
        self._dataset_number = dataloader_idx
        rows = [cut(row, outcome.dataset.class_names, self.top) for row in outcome.rows]
        dropped = () if self.logits else LOGITS  # what is dropped now need not be held until the shard is written
        self._rows += [{name: value for name, value in row.items() if name not in dropped} for row in rows]
        self._notes.update(dict.fromkeys(outcome.notes))
        last = batch_idx + 1 == trainer.num_test_batches[dataloader_idx]
        late = time.monotonic() - self._last_flush >= self.flush_every_s
        if last or late or len(self._rows) >= self.shard_size:
            self.flush()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Keeps what was computed before an error, Ctrl-C or a signal."""
        try:
            self.flush()
        except RunError as error:
            log.error("The last %d records could not be kept. %s", len(self._rows), error)

    def flush(self) -> None:
        """Writes the records at hand.

        Raises:
            RunError: they cannot be written, on a full disk, say; earlier shards stay whole.
        """
        self._last_flush = time.monotonic()
        if not self._rows:
            return
        first = self._rows[0]
        stem = f"{self._dataset_number:02d}-{file_name(first['dataset'])}-{first['index']:07d}"
        try:
            write_shard(self._rows, self.folder, stem, list(self._notes), self.logits)
        except OSError as error:
            raise RunError(
                f"Expected to write records to {self.folder}, but that failed ({error.strerror or error}); the "
                f"{self._written} records written before are whole, so mend that and continue with "
                f"resume={self.folder.parent}."
            ) from error
        self._written += len(self._rows)
        self._rows, self._notes = [], {}
