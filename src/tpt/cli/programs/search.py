"""What Hydra calls around a search for settings, conf/search/optuna.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf


class SweepFolder(Callback):
    """Before the first job, makes the sweep's directory, where the study lies, and writes `multirun.yaml` into it.

    Hydra's own sweeper does so itself; from that file each job knows what the sweep varies.
    """

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Hydra calls this once."""
        folder = Path(config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(config, folder / "multirun.yaml")
