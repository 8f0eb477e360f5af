"""What a program says in the end: notes, figures, the command that comes next, and what a sweeper is told."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from lightning import Trainer

from tpt.cli.logs import stage
from tpt.cli.places import command
from tpt.cli.quoting import setting
from tpt.engine.printing import say
from tpt.errors import UserError
from tpt.files import dotted_values

PERCENT = ("accuracy", "acc")


def tell_learned(notes: Sequence[str], metrics: Mapping[str, float], learner: str, context: Path) -> None:
    """Says what training found, and how the context is tested.

    Args:
        notes: on the data.
        metrics: of the last epoch.
        learner: option that was chosen, which is an option of `context` as well.
        context: file of the context.
    """
    for note in notes:
        say(f"Note: {note}.")
    stage("Learned a context: " + ", ".join(f"{name} {_shown(name, value)}" for name, value in sorted(metrics.items())))
    settings = [f"context={learner}", setting("context.path", str(context)), *backbone_settings()]
    say(f"\nNext: {command('test_time')} {' '.join(settings)}")


def backbone_settings() -> list[str]:
    """The settings of the backbone, as they are to be given to another program, quoted for a shell."""
    now = HydraConfig.get()
    chosen = f"backbone={now.runtime.choices['backbone']}"
    given = [override for override in now.overrides.task if override.lstrip("+~").startswith("backbone.")]
    return [shlex.quote(text) for text in (chosen, *given)]


def _shown(name: str, value: float) -> str:
    return f"{value:.2f} %" if name.endswith(PERCENT) else f"{value:.4g}"


def left_out(trainer: Trainer) -> list[str]:
    """A note where an epoch of training was not all its batches, as with `debug=limit`; none where it was."""
    limit = trainer.limit_train_batches
    if isinstance(limit, float) and limit == 1:
        return []
    much = f"{limit} batches" if isinstance(limit, int) else f"{limit:.0%} of its batches"
    return [f"trainer.limit_train_batches, or fast_dev_run: an epoch was at most {much}, not all images"]


def objective(name: str | None, found: Mapping[str, Any]) -> float | None:
    """The number that a sweeper gets back for a job.

    Args:
        name: of a number in `found`, or None for none; dots lead into nested dictionaries.
        found: numbers and dictionaries of numbers.

    Raises:
        UserError: there is no such number.
    """
    if name is None:
        return None
    numbers = {key: float(value) for key, value in dotted_values(found) if isinstance(value, int | float)}
    if name not in numbers:
        there = f"one of {', '.join(numbers)}" if numbers else "null, since there are no numbers"
        raise UserError(f"Expected in optimized_metric {there}, got {name!r}; the run itself is complete.")
    return numbers[name]
