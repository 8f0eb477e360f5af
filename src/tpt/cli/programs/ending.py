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
    """Prints notes on the data and the last epoch's metrics, and the command that tests the context.

    The option of `learner` is also the name of an option of `context`.
    """
    for note in notes:
        say(f"Note: {note}.")
    shown = {name: f"{value:.2f} %" if name.endswith(PERCENT) else f"{value:.4g}" for name, value in metrics.items()}
    stage("Learned a context: " + ", ".join(f"{name} {value}" for name, value in sorted(shown.items())))
    now = HydraConfig.get()
    given = [override for override in now.overrides.task if override.lstrip("+~").startswith("backbone.")]
    backbone = map(shlex.quote, [f"backbone={now.runtime.choices['backbone']}", *given])
    settings = [f"context={learner}", setting("context.path", str(context)), *backbone]
    say(f"\nNext: {command('test_time')} {' '.join(settings)}")


def unused_batches(trainer: Trainer) -> list[str]:
    """A note if an epoch of training did not use all its batches, as with `debug=limit`."""
    limit = trainer.limit_train_batches
    if isinstance(limit, float) and limit == 1:
        return []
    much = f"{limit} batches" if isinstance(limit, int) else f"{limit:.0%} of its batches"
    return [f"trainer.limit_train_batches or fast_dev_run: each epoch used at most {much}, not the whole training set"]


def objective(name: str | None, found: Mapping[str, Any]) -> float | None:
    """The number in the results that a sweeper optimizes; dots in its name mean nested dictionaries, None means none.

    Raises:
        UserError: there is no such number.
    """
    if name is None:
        return None
    numbers = {key: float(value) for key, value in dotted_values(found) if isinstance(value, int | float)}
    if name not in numbers:
        there = f"one of {', '.join(numbers)}" if numbers else "null, since there are no numbers"
        raise UserError(f"Expected `optimized_metric` to be {there}, got {name!r}; the run itself is complete.")
    return numbers[name]
