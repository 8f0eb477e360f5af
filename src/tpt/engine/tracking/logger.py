"""A Weights & Biases logger for runs and sweeps, which logs offline if W&B cannot be reached."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch import loggers
from lightning.pytorch.utilities import rank_zero_only

from tpt.engine.tracking.guard import accepted, first_line

log = logging.getLogger(__name__)
STEP = "trainer/global_step"  # Lightning's x-axis: images done
SWEEP_ID = "WANDB_SWEEP_ID"  # environment variable that W&B's agent sets for a run that it starts


class WandbLogger(loggers.WandbLogger):
    """Lightning's logger, with name, tags, group and settings taken from the run.

    A job of a sweep never writes to the W&B run of the previous job.  If W&B cannot be reached at the start, the run is
    logged offline, to be uploaded later with `wandb sync`.
    """

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("settings", {"quiet": True})  # prints no table of the last values on the terminal
        super().__init__(**settings)
        if self._wandb_init.get("anonymous") is None:
            self._wandb_init.pop("anonymous", None)  # newer versions warn about this argument, whatever its value
        self._left_out: set[str] = set()

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """W&B's run."""
        if self._experiment is None:
            self._open()
        return self._experiment

    def _open(self) -> None:
        """Starts W&B's run and reports where it is; of W&B's own lines, only warnings and errors are printed."""
        if wandb.run is not None:
            wandb.run.finish()  # the previous job's run, which Lightning would continue
        os.environ.setdefault("WANDB_SHOW_INFO", "false")  # wandb.setup would warn of Lightning's own
        try:
            made = super().experiment
        except Exception as error:  # W&B raises many types
            if self._offline:
                raise
            log.warning("Cannot reach W&B (%s). Logging offline.", first_line(error))
            wandb.teardown()  # the next session reads the environment again, which Lightning changes
            self._offline, self._wandb_init["mode"] = True, "offline"
            made = super().experiment
        if made.offline:
            log.info("W&B run, offline: upload it with `wandb sync %s`", shlex.quote(str(Path(made.dir).parent)))
        elif made.url:
            log.info("W&B run: %s", made.url)

    def describe(self, name: str, tags: Sequence[str], config: Mapping[str, Any], group: str | None) -> None:
        """Sets what the run is called; values from the configuration take precedence."""
        given = self._wandb_init
        if SWEEP_ID not in os.environ:  # W&B's own sweeps name their runs
            given["name"] = given.get("name") or name
        given["group"] = given.get("group") or group
        given["tags"] = accepted([*tags, *(given.get("tags") or ())])
        given["config"] = dict(config)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs values; test values are kept out of the summary."""
        self._leave_out(metrics)
        super().log_metrics(metrics, step)

    @rank_zero_only
    def log_panels(self, panels: Mapping[str, Any], summary: Mapping[str, float]) -> None:
        """Logs tables and images, and the values to rank runs by."""
        self._leave_out(panels)
        self.experiment.log(panels)
        self.experiment.summary.update(summary)

    def _leave_out(self, keys: Iterable[str]) -> None:
        """Keeps test values out of the summary, where W&B puts the last value of each key.

        `WandbPanels` fills the summary.  Each key is defined separately, because Lightning has defined `*`, which takes
        precedence over any other pattern.
        """
        for key in keys:
            if key.startswith("test/") and key not in self._left_out:
                self._left_out.add(key)
                self.experiment.define_metric(key, step_metric=STEP, summary="none")

    def finalize(self, status: str = "success") -> None:
        """Closes the run if it failed; otherwise leaves it open for the panels."""
        super().finalize(status)
        if status == "failed":
            self.experiment.finish(exit_code=1)

    def finish(self) -> None:
        """Closes the run, so that the next job of a sweep gets its own."""
        self.experiment.finish(exit_code=0)
