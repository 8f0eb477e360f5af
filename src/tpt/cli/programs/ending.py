"""What a program prints at its end: notes, metrics and the next command; and the value that a sweeper gets."""

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
    """Prints the metrics of training, and the command that tests the context.

    Args:
        notes: about the data.
        metrics: of the last epoch.
        learner: the chosen option of `learner`, which is also an option of `context`.
        context: the file of the context.
    """
    for note in notes:
        say(f"Note: {note}.")
    stage("Learned a context: " + ", ".join(f"{name} {_shown(name, value)}" for name, value in sorted(metrics.items())))
    settings = [f"context={learner}", setting("context.path", str(context)), *backbone_settings()]
    say(f"\nNext: {command('test_time')} {' '.join(settings)}")


def backbone_settings() -> list[str]:
    """The backbone's settings for another program's command line, quoted for a shell."""
    now = HydraConfig.get()
    chosen = f"backbone={now.runtime.choices['backbone']}"
    given = [override for override in now.overrides.task if override.lstrip("+~").startswith("backbone.")]
    return [shlex.quote(text) for text in (chosen, *given)]


def _shown(name: str, value: float) -> str:
    return f"{value:.2f} %" if name.endswith(PERCENT) else f"{value:.4g}"


def unused_batches(trainer: Trainer) -> list[str]:
    """A note if an epoch of training did not use all its batches, as with `debug=limit`."""
    limit = trainer.limit_train_batches
    if isinstance(limit, float) and limit == 1:
        return []
    much = f"{limit} batches" if isinstance(limit, int) else f"{limit:.0%} of its batches"
    return [f"trainer.limit_train_batches or fast_dev_run: each epoch used at most {much}, not the whole training set"]


def objective(name: str | None, found: Mapping[str, Any]) -> float | None:
    """The value of a job that a sweeper optimizes.

    Args:
        name: of a number in `found`, with dots for nested dictionaries; None for none.
        found: results: numbers, and dictionaries of them.

    Raises:
        UserError: `found` has no such number.
    """
    if name is None:
        return None
    numbers = {key: float(value) for key, value in dotted_values(found) if isinstance(value, int | float)}
    if name not in numbers:
        there = f"one of {', '.join(numbers)}" if numbers else "null, since there are no numbers"
        raise UserError(f"Expected `optimized_metric` to be {there}, got {name!r}; the run itself is complete.")
    return numbers[name]
