"""Reads Hydra's state of the current sweep; Hydra's callbacks at its start and end."""

from __future__ import annotations

import logging
import math
import shlex
import warnings
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from tpt.cli.command_line import parsed, swept_values
from tpt.errors import UserError
from tpt.results.runs.sweep import Sweep

log = logging.getLogger(__name__)


def given_settings(hydras: Any) -> list[str]:
    """The command-line settings in Hydra's part of a configuration, as given: `${oc.env:TOKEN}` is not replaced."""
    task = OmegaConf.select(hydras, "overrides.task", default=OmegaConf.create([]))
    return [str(setting) for setting in OmegaConf.to_container(task, resolve=False)]


def overrides(hydras: Any) -> dict[str, Override]:
    """The overrides in Hydra's part of a configuration by key, also those of a sweep that its experiment gives."""
    of_experiments = OmegaConf.select(hydras, "sweeper.params", default=None) or {}
    given = [*(f"{name}={values}" for name, values in of_experiments.items()), *given_settings(hydras)]
    return {override.get_key_element(): override for override in map(parsed, given)}  # of several, Hydra takes the last


def sweep_config() -> Any:
    """Hydra's part of the configuration of the current sweep, which it wrote at its start; empty outside a sweep."""
    now: Any = HydraConfig.get()
    saved = Path(now.sweep.dir) / "multirun.yaml"
    in_sweep = now.mode is RunMode.MULTIRUN and saved.is_file()
    return _load(saved, saved.stat().st_mtime_ns).hydra if in_sweep else OmegaConf.create()


@lru_cache(1)
def _load(path: Path, changed: int) -> Any:
    """The content of a file, read once unless it has changed: each job asks several times."""
    return OmegaConf.load(path)


def swept(key: str) -> list[Any]:
    """The values of a setting in the current sweep; none if it is not swept, or outside a sweep."""
    override = overrides(sweep_config()).get(key)
    return [] if override is None else swept_values(override)


def at_hand() -> Sweep | None:
    """The sweep of this job; None outside a sweep."""
    now: Any = HydraConfig.get()
    if now.mode is not RunMode.MULTIRUN:
        return None
    chosen = now.runtime.choices
    varied = {key: override for key, override in overrides(sweep_config()).items() if override.is_sweep_override()}
    jobs = None
    with suppress(HydraException):  # the matches of a pattern are known only to Hydra's search path
        if chosen.get("hydra/sweeper") == "basic":  # one job per combination of values
            jobs = math.prod(len(swept_values(override)) for override in varied.values())
    folder, in_turn = Path(now.sweep.dir).resolve(), chosen.get("hydra/launcher") == "basic"
    settings = tuple(one for one in given_settings(now) if one.partition("=")[0] in varied)
    return Sweep(folder, int(now.job.num), jobs, settings, in_turn)


class SweepFolder(Callback):
    """Before a search, creates its directory with `multirun.yaml`, as Hydra's own sweeper does; see `sweep_config`."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Called once by Hydra."""
        with suppress(ImportError):  # another sweeper
            import optuna  # noqa: PLC0415 -- an extra, and only a search needs it

            # Hydra's sweeper already reports the study and its trials.
            optuna.logging.set_verbosity(logging.WARNING)
            warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        folder = Path(config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(config, folder / "multirun.yaml")


class SweepTable(Callback):
    """Prints the table of a sweep when all its jobs are done: one line per row, best first."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Reads the sweep's runs, from any launcher, and prints their table if any succeeded."""
        from tpt.results.tables.brief import brief_text  # noqa: PLC0415 -- only needed at the end
        from tpt.results.tables.formats import terminal_width  # noqa: PLC0415
        from tpt.results.tables.runs import load_runs  # noqa: PLC0415

        folder = config.hydra.sweep.dir
        if not any(Path(folder).rglob("results.json")):
            return
        try:
            text = brief_text(load_runs([folder]), terminal_width())
        except (UserError, OSError) as error:
            log.warning("Cannot print the table of the sweep (%s).", error)
            return
        print(f"\n{text}\nMore, with figures: tpt-report {shlex.quote(str(folder))} --figures DIR", flush=True)
