"""What callbacks do before a run, which may continue an earlier one, and after all its processes are done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
from lightning import Trainer

from tpt.results.runs.sweep import Sweep


@runtime_checkable
class Describes(Protocol):
    """A callback or logger that shows which run this is."""

    def describe(self, manifest: Mapping[str, Any], sweep: Sweep | None) -> None:
        """Receives the manifest of the run, as in `run.json`, and its sweep, if any."""
        ...


@runtime_checkable
class Begins(Protocol):
    """A callback that continues from the records of earlier sessions."""

    def begin(self, records: pa.Table) -> None:
        """Receives the records of earlier sessions."""
        ...


@runtime_checkable
class Launches(Protocol):
    """A callback that acts before the processes of a run are started."""

    def launch(self, trainer: Trainer) -> None:
        """Called last, when everything else is ready."""
        ...


@runtime_checkable
class Closes(Protocol):
    """A callback that waits for the records of all processes."""

    def close(self, trainer: Trainer, found: dict[str, dict[str, Any]]) -> None:
        """Receives the results of the run: measures by dataset."""
        ...


@runtime_checkable
class Finishes(Protocol):
    """A logger that has something to close when everything is logged."""

    def finish(self) -> None:
        """Called after every `close`."""
        ...


def describe(parts: Iterable[object], manifest: Mapping[str, Any], sweep: Sweep | None) -> None:
    """Tells callbacks and loggers, before a run's first image, which run this is."""
    for part in parts:
        if isinstance(part, Describes):
            part.describe(manifest, sweep)


def begin(trainer: Trainer, records: pa.Table, manifest: Mapping[str, Any], sweep: Sweep | None = None) -> None:
    """Tells callbacks and loggers which run this is, and hands callbacks the records of earlier sessions."""
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
    """Hands the callbacks the run's results, then lets the loggers write and close."""
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
