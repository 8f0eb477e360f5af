"""A logger that a run survives: its numbers are in the run's own files anyway."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

log = logging.getLogger(__name__)


class Nothing:
    """Takes any call."""

    def __getattr__(self, name: str) -> Nothing:
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Nothing:  # noqa: D102 - the class says it
        return self


class SafeLogger:
    """Stands before a Lightning logger: if its service fails, one warning says so and nothing more is logged."""

    service = "The logger"
    _lost = False

    @property
    def experiment(self) -> Any:
        """The service's run; an object that accepts any call if there is none."""
        if self._lost:
            return Nothing()
        parent: Any = super()
        try:
            return parent.experiment
        except Exception as error:  # no network, no account, no space: whatever it is, it must not end the run
            return self.instead(error)

    def instead(self, error: Exception) -> Any:
        """What to log to where the service's run cannot be made: nothing."""
        self._lose(error)
        return Nothing()

    def safely(self, do: Callable[[Any], object]) -> None:
        """Calls `do` with the logger's run; gives up on the service if that fails."""
        if self._lost:
            return
        try:
            do(self.experiment)
        except Exception as error:  # see above
            self._lose(error)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs values, if it still can."""
        parent: Any = super()
        self.safely(lambda _: parent.log_metrics(dict(metrics), step))

    def save(self) -> None:
        """Writes what there is, if it still can."""
        parent: Any = super()
        self.safely(lambda _: parent.save())

    def finalize(self, status: str = "success") -> None:
        """Finishes, if it still can."""
        parent: Any = super()
        self.safely(lambda _: parent.finalize(status))

    def _lose(self, error: Exception) -> None:
        self._lost = True
        log.warning(
            "%s failed (%s): going on without it; all numbers are in the run's files.", self.service, first_line(error)
        )


def first_line(error: Exception) -> str:
    """The first line of an error, or its type."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
