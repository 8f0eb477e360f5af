"""What both programs do around their work: show their settings, and tell a sweeper what came out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.syntax import Syntax

from tpt.errors import UserError


def show_settings(cfg: DictConfig) -> None:
    """Prints all settings where `print_config` is set, as YAML, in colours on a terminal; the first process alone."""
    if not cfg.print_config or os.environ.get("LOCAL_RANK", "0") != "0":
        return
    text = OmegaConf.to_yaml(cfg, resolve=True)
    if sys.stdout.isatty():
        Console().print(Syntax(text, "yaml", background_color="default", word_wrap=True))
    else:
        print(text)


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
    numbers: dict[str, float] = dict(_numbers(found))
    if name not in numbers:
        raise UserError(
            f"Expected in optimized_metric one of {', '.join(numbers)}, got {name!r}; the run itself is complete."
        )
    return numbers[name]


def _numbers(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", float(value)
