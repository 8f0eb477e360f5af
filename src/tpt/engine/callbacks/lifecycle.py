"""Hooks that callbacks and loggers may have before a run, and after all its processes end.

- `describe(manifest, sweep)`, of callbacks and loggers: which run this is, as in `run.json`, and its sweep, if any
- `begin(records)`, of callbacks: the records of earlier sessions
- `launch(trainer)`, of callbacks: right before the run's processes start, when everything else is ready
- `close(trainer, found)`, of callbacks: the run's measures by dataset, from the records of all processes
- `finish()`, of loggers: after every `close`, when everything is logged
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from lightning import Trainer

from tpt.results.runs.sweep import Sweep


def _call(hook: str, trainer: Trainer, *arguments: object) -> None:
    """Calls the hook of the callbacks and loggers that have it."""
    for part in (*trainer.callbacks, *trainer.loggers):  # type: ignore[attr-defined]
        if (call := getattr(part, hook, None)) is not None:
            call(*arguments)


def begin(
    trainer: Trainer, manifest: Mapping[str, Any], sweep: Sweep | None = None, records: pa.Table | None = None
) -> None:
    """Calls the hooks before a run; a test has records of earlier sessions."""
    _call("describe", trainer, manifest, sweep)
    if records is not None:
        _call("begin", trainer, records)
    _call("launch", trainer, trainer)


def close(trainer: Trainer, found: dict[str, dict[str, Any]]) -> None:
    """Passes the results to the callbacks, then lets the loggers write and close."""
    _call("close", trainer, trainer, found)
    finish(trainer)


def finish(trainer: Trainer) -> None:
    """Flushes and closes the loggers."""
    for logger in trainer.loggers:
        logger.save()
    _call("finish", trainer)
