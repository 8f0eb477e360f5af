"""Hydra callback of a hyperparameter search, conf/search/optuna.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf


class SweepFolder(Callback):
    """Before the first job, creates the sweep's directory, which holds the study, and writes `multirun.yaml` into it.

    Hydra's own sweeper does the same; each job reads from this file what the sweep varies.
    """

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Called once by Hydra."""
        folder = Path(config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(config, folder / "multirun.yaml")
