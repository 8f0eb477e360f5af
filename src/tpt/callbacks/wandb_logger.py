"""A Weights & Biases logger that a run survives: its numbers are in the run's own files anyway."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

log = logging.getLogger(__name__)


class SafeWandbLogger(WandbLogger):
    """Lightning's logger, with two differences.

    Where W&B cannot be reached at the start, the run is logged offline, to be sent later by `wandb sync`.  Where it
    fails on the way, because its process was killed, say, one warning says so and nothing more is logged.

    Args:
        settings: as for `WandbLogger`.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._lost = False

    @property
    def experiment(self) -> Any:
        """W&B's run; something that takes any call where there is none."""
        if self._lost or getattr(rank_zero_only, "rank", 0) > 0:
            return _Nothing()
        try:
            return super().experiment
        except Exception as error:  # no network, no account, no space: whatever it is, it must not end the run
            if self._offline:
                self._lose(error)
                return _Nothing()
            log.warning("W&B cannot be reached (%s): logging offline, `wandb sync` sends it later.", _first_line(error))
            self._offline = True
            self._wandb_init["mode"] = "offline"
            return self.experiment

    def safely(self, do: Callable[[Any], object]) -> None:
        """Calls `do` with W&B's run; gives up on W&B where that fails."""
        if self._lost:
            return
        try:
            do(self.experiment)
        except Exception as error:  # see above
            self._lose(error)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:  # type: ignore[override]
        """Logs values, if W&B still can."""
        self.safely(lambda _: super(SafeWandbLogger, self).log_metrics(metrics, step))

    def finalize(self, status: str) -> None:
        """Finishes, if W&B still can."""
        self.safely(lambda _: super(SafeWandbLogger, self).finalize(status))

    def _lose(self, error: Exception) -> None:
        self._lost = True
        sys.unraisablehook = _without_wandb(sys.unraisablehook)
        log.warning("W&B failed (%s): going on without it; all numbers are in the run's files.", _first_line(error))


class _Nothing:
    """Takes any call."""

    def __getattr__(self, name: str) -> _Nothing:
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> _Nothing:
        return self


def _without_wandb(hook: Callable[[Any], object]) -> Callable[[Any], object]:
    """Leaves out the trace that W&B prints when the program ends and its own process is gone."""

    def quiet(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, ConnectionError):
            hook(unraisable)

    return quiet


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
