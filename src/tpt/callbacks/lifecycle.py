"""What callbacks do before a run, which may continue an earlier one, and after all its processes are done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
from lightning import Trainer

from tpt.runs.sweep import Sweep


@runtime_checkable
class Describes(Protocol):
    """A callback or logger that says which run this is."""

    def describe(self, manifest: Mapping[str, Any], sweep: Sweep | None) -> None:
        """Takes up what the run is, as in `run.json`, and the sweep it belongs to, if any."""
        ...


@runtime_checkable
class Begins(Protocol):
    """A callback that takes up what earlier sessions of a run did."""

    def begin(self, records: pa.Table) -> None:
        """Takes up the records of earlier sessions."""
        ...


@runtime_checkable
class Launches(Protocol):
    """A callback that acts before the processes of a run are started."""

    def launch(self, trainer: Trainer) -> None:
        """Comes last, when all else is ready."""
        ...


@runtime_checkable
class Closes(Protocol):
    """A callback that waits for the records of all processes."""

    def close(self, trainer: Trainer, found: dict[str, dict[str, Any]]) -> None:
        """Says what the run found: measures by dataset."""
        ...


@runtime_checkable
class Finishes(Protocol):
    """A logger that has something to close when everything is logged."""

    def finish(self) -> None:
        """Comes after every `close`."""
        ...


def describe(parts: Iterable[object], manifest: Mapping[str, Any], sweep: Sweep | None) -> None:
    """Tells callbacks and loggers, before a run's first image, which run this is."""
    for part in parts:
        if isinstance(part, Describes):
            part.describe(manifest, sweep)


def begin(trainer: Trainer, records: pa.Table, manifest: Mapping[str, Any], sweep: Sweep | None = None) -> None:
    """Tells callbacks and loggers which run this is, and the callbacks of earlier sessions' records."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    describe([*callbacks, *trainer.loggers], manifest, sweep)
    for callback in callbacks:
        if isinstance(callback, Begins):
            callback.begin(records)
    launch(trainer)


def launch(trainer: Trainer) -> None:
    """Tells the callbacks that the processes of the run are about to be started."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Launches):
            callback.launch(trainer)


def close(trainer: Trainer, found: dict[str, dict[str, Any]]) -> None:
    """Tells the callbacks what the run found, and the loggers to write it and close."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Closes):
            callback.close(trainer, found)
    finish(trainer)


def finish(trainer: Trainer) -> None:
    """Tells the loggers to write what they have, and to close."""
    for logger in trainer.loggers:
        logger.save()
        if isinstance(logger, Finishes):
            logger.finish()
