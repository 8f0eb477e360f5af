"""Hooks that callbacks may have before a run, which may resume an earlier one, and after all its processes end."""

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
    """A callback that uses the records of earlier sessions."""

    def begin(self, records: pa.Table) -> None:
        """Receives the records of earlier sessions."""
        ...


@runtime_checkable
class Launches(Protocol):
    """A callback that acts before the run's processes start."""

    def launch(self, trainer: Trainer) -> None:
        """Called last, when everything else is ready."""
        ...


@runtime_checkable
class Closes(Protocol):
    """A callback that needs the records of all processes."""

    def close(self, trainer: Trainer, found: dict[str, dict[str, Any]]) -> None:
        """Receives the results of the run: measures by dataset."""
        ...


@runtime_checkable
class Finishes(Protocol):
    """A logger that must be closed when everything is logged."""

    def finish(self) -> None:
        """Called after every `close`."""
        ...


def describe(parts: Iterable[object], manifest: Mapping[str, Any], sweep: Sweep | None) -> None:
    """Before a run's first image, passes the run's manifest to callbacks and loggers."""
    for part in parts:
        if isinstance(part, Describes):
            part.describe(manifest, sweep)


def begin(trainer: Trainer, records: pa.Table, manifest: Mapping[str, Any], sweep: Sweep | None = None) -> None:
    """Passes the manifest to callbacks and loggers, and the records of earlier sessions to callbacks."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    describe([*callbacks, *trainer.loggers], manifest, sweep)
    for callback in callbacks:
        if isinstance(callback, Begins):
            callback.begin(records)
    launch(trainer)


def launch(trainer: Trainer) -> None:
    """Calls the callbacks right before the run's processes start."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Launches):
            callback.launch(trainer)


def close(trainer: Trainer, found: dict[str, dict[str, Any]]) -> None:
    """Passes the results to the callbacks, then lets the loggers write and close."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Closes):
            callback.close(trainer, found)
    finish(trainer)


def finish(trainer: Trainer) -> None:
    """Flushes and closes the loggers."""
    for logger in trainer.loggers:
        logger.save()
        if isinstance(logger, Finishes):
            logger.finish()
