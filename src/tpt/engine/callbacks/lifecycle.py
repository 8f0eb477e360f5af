"""Hooks of callbacks and loggers in addition to Lightning's: `begin` before a run, `close` after all its processes end.

`begin(trainer, manifest, sweep, records)`: which run this is, as in `run.json`; its sweep, if any; and in a test the
records of earlier sessions.  `close(trainer, found)`: the measures of a test by dataset, from all processes' records.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from lightning import Trainer

from tpt.results.runs.sweep import Sweep


def begin(
    trainer: Trainer, manifest: Mapping[str, Any], sweep: Sweep | None = None, records: pa.Table | None = None
) -> None:
    """Calls the hook, of callbacks last, because `ProcessGuard` watches the processes as soon as they start."""
    for part in (*trainer.loggers, *trainer.callbacks):  # type: ignore[attr-defined]
        if hasattr(part, "begin"):
            part.begin(trainer, manifest, sweep, records)


def close(trainer: Trainer, found: dict[str, dict[str, Any]] | None = None) -> None:
    """Calls the hook, of loggers last, because callbacks log to them."""
    for part in (*trainer.callbacks, *trainer.loggers):  # type: ignore[attr-defined]
        if hasattr(part, "close"):
            part.close(trainer, found)
