"""What callbacks do before a run, which may continue an earlier one, and after all its processes are done."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
from lightning import Trainer


@runtime_checkable
class Begins(Protocol):
    """A callback that takes up what earlier sessions of a run did."""

    def begin(self, records: pa.Table) -> None:
        """Takes up the records of earlier sessions."""
        ...


@runtime_checkable
class Closes(Protocol):
    """A callback that waits for the records of all processes."""

    def close(self, trainer: Trainer, found: dict[str, dict[str, Any]]) -> None:
        """Says what the run found: measures by dataset."""
        ...


@runtime_checkable
class Finishes(Protocol):
    """A callback that closes what others log to."""

    def finish(self, trainer: Trainer) -> None:
        """Comes after every `close`."""
        ...


def begin(trainer: Trainer, records: pa.Table) -> None:
    """Tells the callbacks of earlier sessions' records."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Begins):
            callback.begin(records)


def close(trainer: Trainer, found: dict[str, dict[str, Any]]) -> None:
    """Tells the callbacks what the run found, and the loggers to write it."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Closes):
            callback.close(trainer, found)
    for logger in trainer.loggers:
        logger.save()
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Finishes):
            callback.finish(trainer)
