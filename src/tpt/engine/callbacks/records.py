"""Writes one record per image during the run."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from safetensors.torch import save

from tpt.engine.tasks.outcome import Outcome, cut
from tpt.errors import Count, NotNegative, RunError, checked
from tpt.files import file_name
from tpt.results.runs.records import LOGITS, write_shard
from tpt.results.runs.states import drop_states, write_state

log = logging.getLogger(__name__)

MOST_STATE_TIME = 0.05  # largest share of time for writing a stream method's state


class RecordWriter(Callback):
    """Writes records in shards of whole batches, each complete or absent; every process writes its own.

    With a stream method, each shard comes with the method's state after it; the latest state of a dataset is kept until
    the dataset is done.  If states are large, shards are larger too.

    Args:
        folder: folder of the run's records.
        shard_size: images per shard.
        flush_every_s: seconds after which the current records are written as a shard; a crash loses at most these.
        top: number of most probable classes in a record, with their probabilities.
        logits: whether to also keep the logits of all classes, before and after adaptation, in half precision.
    """

    @checked
    def __init__(
        self,
        folder: str | Path,
        shard_size: Count = 256,
        flush_every_s: NotNegative = 60.0,
        top: Count = 5,
        logits: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.shard_size = shard_size
        self.flush_every_s = flush_every_s
        self.top = top
        self.logits = logits
        self._rows: list[dict[str, Any]] = []
        self._notes: dict[str, None] = {}
        self._last: tuple[int, Outcome] | None = None  # number of its dataset, and the last outcome
        self._last_flush = 0.0
        self._state_seconds = 0.0

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
        """Adds a batch; writes a shard when it is full, when it is due, or when the dataset ends."""
        outcome: Outcome = outputs
        rows = [cut(row, outcome.dataset.class_names, self.top) for row in outcome.rows]
        dropped = () if self.logits else LOGITS  # frees memory that is not needed for the shard
        self._rows += [{name: value for name, value in row.items() if name not in dropped} for row in rows]
        self._notes.update(dict.fromkeys(outcome.notes))
        self._last = dataloader_idx, outcome
        last = batch_idx + 1 == trainer.num_test_batches[dataloader_idx]
        passed = time.monotonic() - self._last_flush
        due = len(self._rows) >= self.shard_size or passed >= self.flush_every_s
        if last or (due and passed >= self._state_seconds / MOST_STATE_TIME):
            self.flush()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Writes the records computed before an error, Ctrl-C or a signal."""
        if self._last is not None and self._last[1].state is not None and self._last[1].state() is None:
            log.warning(
                "The run ended within a batch of a stream. Its last %d records will be computed again.", len(self._rows)
            )
            return
        try:
            self.flush()
        except RunError as error:
            log.error("The last %d records were lost. %s", len(self._rows), error)

    def flush(self) -> None:
        """Writes the current records; raises a RunError if that fails, for example because the disk is full."""
        self._last_flush = time.monotonic()
        if self._last is None:
            return
        first, (number, outcome) = self._rows[0], self._last
        stem = f"{number:02d}-{file_name(first['dataset'])}-{first['index']:07d}"
        try:
            kept = self._write_state(number, outcome)
            write_shard(self._rows, self.folder, stem, list(self._notes), self.logits)
            if outcome.state is not None:
                drop_states(self.folder.parent, number, kept)
        except OSError as error:
            raise RunError(
                f"Cannot write records to {self.folder} ({error.strerror or error}). Records written before are "
                f"complete. Fix the problem, then continue with resume={self.folder.parent}."
            ) from error
        self._rows, self._notes, self._last = [], {}, None  # releases the method that the outcome refers to

    def _write_state(self, number: int, outcome: Outcome) -> Path | None:
        """Writes a stream method's state after the last record, unless the dataset is done."""
        began = time.monotonic()
        if outcome.state is None or (images := 1 + max(row["position"] for row in self._rows)) == len(outcome.dataset):
            return None
        content = save({name: value.contiguous() for name, value in (outcome.state() or {}).items()})
        path = write_state(content, self.folder.parent, number, outcome.dataset.name, images)
        self._state_seconds = time.monotonic() - began
        return path
