"""How the current job was started, kept for `resume=DIRECTORY`, and the checks of settings read from there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from tpt.cli.places import config_dir
from tpt.cli.settings import values_of
from tpt.cli.sweeps import given_settings
from tpt.cli.trust import TARGET, StrangeConfigError, known_parts, refuse_strangers
from tpt.errors import UserError
from tpt.files import write_text
from tpt.results.runs.manifest import leaves
from tpt.results.runs.start import Start, keep_start

HYDRAS = ".hydra"  # folder of the files that Hydra keeps of a run
STORED = "TPT_STORED"  # set in the environment of jobs whose settings come from a directory, not from a command line
WAY_OUT = "if you know the run, add trust=true"


def keep(cfg: DictConfig, anew: bool = False) -> None:
    """Writes how the current run and its sweep were started; the first process alone.

    Hydra's own files as well (`.hydra/`), which it would write at every start, one that is refused included.

    Args:
        cfg: of the run.
        anew: the run has just taken its directory, as a new one.
    """
    now: Any = HydraConfig.get()
    if any(os.environ.get(rank, "0") != "0" for rank in ("LOCAL_RANK", "RANK", "NODE_RANK")):
        return
    program = str(now.job.config_name)
    folder = Path(now.runtime.output_dir)
    if keep_start(folder, Start(program, tuple(now.overrides.task)), anew):
        about = {"config": cfg, "hydra": {"hydra": now}, "overrides": list(now.overrides.task)}
        (folder / HYDRAS).mkdir(exist_ok=True)
        for name, content in about.items():
            write_text(OmegaConf.to_yaml(content), folder / HYDRAS / f"{name}.yaml")
    if now.mode is RunMode.MULTIRUN and (settings := given_settings()):
        searched = now.runtime.choices.get("hydra/sweeper") != "basic"
        keep_start(Path(now.sweep.dir), Start(program, tuple(settings), sweep=True, searched=searched))


def refuse_odd_settings(settings: Sequence[str], where: Path) -> None:
    """Raises if settings that were read from a directory are more than settings.

    They may name no file of configuration outside the project's own, no part of Hydra, and no option of the program:
    these act before the configuration is there to be looked at.

    Args:
        settings: `key=value` each.
        where: they were read.
    """
    for setting in settings:
        try:
            override = OverridesParser.create().parse_override(setting)
            values = values_of(override, text=True)
        except (HydraException, ValueError, TypeError) as error:
            raise UserError(
                f"Expected settings in {where}, but {setting[:100]!r} is none; start the run anew."
            ) from error
        key = str(override.key_or_group)
        outside = is_group(key) and any(isinstance(v, str) and _leaves(v) for v in _flat(values))
        if outside or ".." in key or key.replace("/", ".").split(".")[0] in ("hydra", "trust"):
            raise UserError(
                f"Expected settings of a run in {where}, got {setting[:100]!r}, which reaches beyond it; start the run "
                "anew."
            )


def is_group(key: str) -> bool:
    """Whether an override chooses among files of the configuration."""
    return "/" in key or ("." not in key and (config_dir() / key).is_dir())


def _leaves(option: str) -> bool:
    """Whether the name of a file leads out of its folder."""
    return option.startswith(("/", "~")) or ".." in option or "${" in option


def _flat(values: Sequence[Any]) -> Iterator[Any]:
    for value in values:
        yield from _flat(value) if isinstance(value, list | tuple) else (value,)


def refuse_strange_parts(cfg: DictConfig, run_dir: Path) -> None:
    """Raises if settings that were read from a directory name what is no part of the project, unless `trust` is set.

    Args:
        cfg: of the job.
        run_dir: its directory.
    """
    if os.environ.get(STORED) and not cfg.get("trust"):
        refuse_strange_names(cfg)
        config: Any = OmegaConf.to_container(cfg, resolve=True)
        refuse_strangers(config, "the run", WAY_OUT, run_dir)


def refuse_strange_names(cfg: DictConfig) -> None:
    """The same for names alone, before anything is imported to read its arguments."""
    if os.environ.get(STORED) and not cfg.get("trust"):
        for key, value in leaves(OmegaConf.to_container(cfg, resolve=False)):
            if key.split(".")[-1] == TARGET and value not in known_parts():
                raise StrangeConfigError(
                    f"Expected parts of tpt in the settings of the run, got {str(value)[:100]!r} for {key}; {WAY_OUT}."
                )
