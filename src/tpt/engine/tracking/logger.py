"""A Weights & Biases logger that a run survives: its numbers are in the run's own files anyway."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import wandb
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from tpt.engine.tracking.labels import config_of, name_of, tags_of
from tpt.engine.tracking.safe import Nothing, SafeLogger, first_line
from tpt.results.runs.sweep import Sweep

log = logging.getLogger(__name__)
STEP = "trainer/global_step"  # Lightning's x-axis: images done
SWEEP_ID = "WANDB_SWEEP_ID"  # in the environment of a run that W&B's own agent starts


class SafeWandbLogger(SafeLogger, WandbLogger):
    """Lightning's logger, with some differences.

    It takes name, tags and settings of the run from what the run is; those of a sweep share a group, the sweep's
    directory.  A job of a sweep never writes to the W&B run of the job before.

    Where W&B cannot be reached at the start, the run is logged offline, to be sent later by `wandb sync`.  Where it
    fails on the way, because its process was killed, say, one warning says so and nothing more is logged.

    Args:
        settings: as for `WandbLogger`.
    """

    service = "W&B"

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        if self._wandb_init.get("anonymous") is None:
            self._wandb_init.pop("anonymous", None)  # which newer versions warn of, whatever it is
        self._left_out: set[str] = set()

    @property
    def experiment(self) -> Any:
        """W&B's run; something that takes any call where there is none."""
        if self._lost or getattr(rank_zero_only, "rank", 0) > 0:
            return Nothing()
        if self._experiment is None and wandb.run is not None:
            try:
                wandb.run.finish()  # of a job before, which Lightning would go on with
            except Exception as error:  # as in `SafeLogger`
                return self.instead(error)
        return super().experiment

    def instead(self, error: Exception) -> Any:
        """A run that is logged offline; nothing, if that fails as well."""
        if self._offline:
            return super().instead(error)
        log.warning("W&B cannot be reached (%s): logging offline, `wandb sync` sends it later.", first_line(error))
        self._offline = True
        self._wandb_init["mode"] = "offline"
        return self.experiment

    def describe(self, manifest: Mapping[str, Any], sweep: Sweep | None) -> None:
        """Takes up what the run is; what was said in the configuration stays.

        Args:
            manifest: `method`, `choices`, `backbone` and `config`, as in `run.json`.
            sweep: that the run belongs to, if any.
        """
        given = self._wandb_init
        if SWEEP_ID not in os.environ:  # whose sweeps name their runs
            given["name"] = given.get("name") or name_of(manifest, self.save_dir or ".", sweep)
        given["group"] = given.get("group") or (None if sweep is None else sweep.name)
        given["tags"] = [*tags_of(manifest), *(given.get("tags") or ())]
        given["config"] = config_of(manifest)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs values, if W&B still can."""
        self.leave_out_of_summary(metrics)
        super().log_metrics(metrics, step)

    def leave_out_of_summary(self, keys: Iterable[str]) -> None:
        """Keeps values of a test out of the summary, where W&B puts the last one of each key.

        `WandbPanels` says what is in it.  This is said of every key, since Lightning has told W&B of `*`, which comes
        before any other pattern.
        """
        for key in keys:
            if key.startswith("test/") and key not in self._left_out:
                self._left_out.add(key)
                self.safely(partial(_leave_out, key=key))

    def finalize(self, status: str = "success") -> None:
        """Finishes, if W&B still can; closes the run where it failed."""
        super().finalize(status)
        if status == "failed":
            self.safely(lambda run: run.finish(exit_code=1))

    def finish(self) -> None:
        """Closes the run: the next job of a sweep gets one of its own."""
        self.safely(lambda run: run.finish(exit_code=0))

    def _lose(self, error: Exception) -> None:
        super()._lose(error)
        sys.unraisablehook = _without_wandb(sys.unraisablehook)


def _leave_out(run: Any, key: str) -> None:
    run.define_metric(key, step_metric=STEP, summary="none")


def _without_wandb(hook: Callable[[Any], object]) -> Callable[[Any], object]:
    """Leaves out the trace that W&B prints when the program ends and its own process is gone."""

    def quiet(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, ConnectionError):
            hook(unraisable)

    return quiet
