"""Hooks that callbacks and loggers may have before a run, and after all its processes end.

- `describe(manifest, sweep)`, of callbacks and loggers: which run this is, as in `run.json`, and its sweep, if any
- `begin(records)`, of callbacks: the records of earlier sessions
- `launch(trainer)`, of callbacks: right before the run's processes start, when everything else is ready
- `close(trainer, found)`, of callbacks: the run's measures by dataset, from the records of all processes
- `finish()`, of loggers: after every `close`, when everything is logged
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
from lightning import Trainer

from tpt.results.runs.sweep import Sweep


def _call(hook: str, parts: Iterable[object], *arguments: object) -> None:
    """Calls the hook of the parts that have it."""
    for part in parts:
        if (call := getattr(part, hook, None)) is not None:
            call(*arguments)


def _callbacks(trainer: Trainer) -> list[object]:
    return list(trainer.callbacks)  # type: ignore[attr-defined]


def describe(parts: Iterable[object], manifest: Mapping[str, Any], sweep: Sweep | None) -> None:
    """Before a run's first image, passes the run's manifest to callbacks and loggers."""
    _call("describe", parts, manifest, sweep)


def begin(trainer: Trainer, records: pa.Table, manifest: Mapping[str, Any], sweep: Sweep | None = None) -> None:
    """Passes the manifest to callbacks and loggers, and the records of earlier sessions to callbacks."""
    describe([*_callbacks(trainer), *trainer.loggers], manifest, sweep)
    _call("begin", _callbacks(trainer), records)
    launch(trainer)


def launch(trainer: Trainer) -> None:
    """Calls the callbacks right before the run's processes start."""
    _call("launch", _callbacks(trainer), trainer)


def close(trainer: Trainer, found: dict[str, dict[str, Any]]) -> None:
    """Passes the results to the callbacks, then lets the loggers write and close."""
    _call("close", _callbacks(trainer), trainer, found)
    finish(trainer)


def finish(trainer: Trainer) -> None:
    """Flushes and closes the loggers."""
    for logger in trainer.loggers:
        logger.save()
    _call("finish", trainer.loggers)
